"""Pages of docs/ that must say what the code does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from nomaflow_host.injection.errors import PREPARATION_REASONS
from nomaflow_kernel.history.reasons import REASONS
from nomaflow_kernel.history.states import ATTEMPT_TRANSITIONS, RUN_TRANSITIONS, AttemptState, RunState

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "deploy").rglob("*.md"), *(ROOT / "tests").rglob("*.md")]


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).lower() for text in found)
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """Each link to a file or a heading of the repository exists."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", prose):
        path, _, anchor = "".join(link).partition("#")
        if not re.match(r"https?:|mailto:", path):
            target = page.parent / path if path else page
            assert target.exists(), path
            assert not anchor or anchor in headings(target), f"{path}#{anchor}"


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_a_page_names_exists(name: str) -> None:
    """A map of the house that names a room which is gone misleads whoever looks for it."""
    tops = ("bench", "deploy", "docs", "kernel", "plugin_host", "plugins", "protos", "sdk", "tests")
    files = {str(each.relative_to(ROOT)) for top in tops for each in (ROOT / top).rglob("*")} | {*tops, ".ci/run"}
    prose = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    missing = []
    for mention in re.findall(r"`([^`\s]+)`", prose):
        if "/" not in mention and not mention.endswith((".py", ".js", ".css", ".html")):
            continue
        pattern = re.escape(mention.rstrip("/")).replace("…", ".*")
        if not any(re.fullmatch(rf"(?:.*/)?{pattern}(?:\.py)?", file) for file in files):
            missing.append(mention)
    assert missing == []


def test_the_readme_lists_every_page() -> None:
    """A page of docs/ that the README does not name is found by nobody."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in readme] == []


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
