"""The document of events says what the code does."""

from __future__ import annotations

import ast
from pathlib import Path

import nomaflow_kernel
from nomaflow_kernel.history import transitions
from nomaflow_kernel.store.document import event_table
from nomaflow_kernel.store.operations.events_of_transitions import CORE_EVENTS

KERNEL = Path(nomaflow_kernel.__file__).parent
DOCUMENT = (KERNEL.parents[1] / "docs" / "events.md").read_text()


def _notice_kinds() -> set[str]:
    """Collect the texts that the kernel's code gives to ``Notice(kind=…)``."""
    kinds: set[str] = set()
    for path in KERNEL.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Notice":
                for keyword in node.keywords:
                    if keyword.arg == "kind":
                        texts = [n.value for n in ast.walk(keyword.value) if isinstance(n, ast.Constant)]
                        kinds.update(text for text in texts if isinstance(text, str))
    return kinds


def test_the_table_of_events_is_the_one_in_the_document() -> None:
    """docs/events.md holds the generated table, to the letter."""
    assert event_table() in DOCUMENT, "run: python -m nomaflow_kernel.store.document, and put it into docs/events.md"


def test_every_notice_of_the_kernel_is_in_the_document() -> None:
    """Each kind that the code gives a notice has its row."""
    missing = {kind for kind in _notice_kinds() if f"| `{kind}` |" not in DOCUMENT}
    assert missing == set()


def test_every_event_that_a_transition_promises_is_in_the_table() -> None:
    """The kinds named in the docstrings of the transitions are those of the table."""
    promised = {
        word.strip("`.,")
        for name in transitions.__all__
        for word in (getattr(transitions, name).__doc__ or "").split()
        if word.startswith(("``run.", "``attempt.", "``pause."))
    }
    assert promised == set(CORE_EVENTS)
