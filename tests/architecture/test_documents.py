"""Pages of docs/ that must say what the code does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from nomaflow_host.injection.errors import PREPARATION_REASONS
from nomaflow_kernel.history.reasons import REASONS, reason_codes_markdown
from nomaflow_kernel.history.states import ATTEMPT_TRANSITIONS, RUN_TRANSITIONS, AttemptState, RunState

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_reason_codes_page_is_the_table() -> None:
    """docs/reason_codes.md is what make docs writes."""
    assert (DOCS / "reason_codes.md").read_text(encoding="utf-8") == reason_codes_markdown()


def test_every_reason_code_in_the_code_is_in_the_table() -> None:
    """Every reason code in the product is in the table."""
    pattern = re.compile(r"""(?:Reason\(|reason_code=|_reason = )"([a-z_]+)\"""")
    used = set(PREPARATION_REASONS)
    for folder in ("kernel", "plugin_host"):
        for path in (ROOT / folder).rglob("*.py"):
            used.update(pattern.findall(path.read_text(encoding="utf-8")))
    assert len(used) > 30
    assert used - REASONS.keys() == set()


@pytest.mark.parametrize(
    ("heading", "transitions", "states"),
    [("Runs", RUN_TRANSITIONS, RunState), ("Attempts", ATTEMPT_TRANSITIONS, AttemptState)],
)
def test_lifecycle_page_draws_the_transitions(
    heading: str, transitions: Mapping[str, frozenset[str]], states: type
) -> None:
    """The arrows of docs/run_lifecycle.md are the pairs of the transition tables, and every state has its row."""
    text = (DOCS / "run_lifecycle.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    drawn = set(re.findall(r"^    ([A-Z]+) --> ([A-Z]+):", section, re.MULTILINE))
    assert drawn == {(str(source), str(target)) for source, targets in transitions.items() for target in targets}
    rows = set(re.findall(r"^\| ([A-Z]+) \|", section, re.MULTILINE))
    assert rows == {str(state) for state in states}
