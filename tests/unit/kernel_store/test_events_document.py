"""The document of events says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import nomaflow_kernel
from nomaflow_kernel.history import transitions
from nomaflow_kernel.history.event_kinds import CORE_EVENTS, EVENT_KINDS
from nomaflow_kernel.rpc.hidden_values import EVENT_FACTS

KERNEL = Path(nomaflow_kernel.__file__).parent
DOCUMENT = (KERNEL.parents[1] / "docs" / "events.md").read_text()


def test_every_kind_is_in_the_document() -> None:
    """Each kind of the list has one row, and no other kind has one."""
    assert sorted(re.findall(r"^\| `([a-z_.]+)` \|", DOCUMENT, re.M)) == sorted(EVENT_KINDS)


def test_every_event_that_a_transition_promises_is_in_the_table() -> None:
    """The kinds named in the docstrings of the transitions are those of the table."""
    promised = {
        word.strip("`.,")
        for kind in vars(transitions).values()
        if isinstance(kind, type) and kind.__module__ == transitions.__name__
        for word in (kind.__doc__ or "").split()
        if word.startswith(("``run.", "``attempt.", "``pause."))
    }
    assert promised == set(CORE_EVENTS)


def test_every_key_that_all_callers_see_is_in_the_document() -> None:
    """The keys of an event's data that are hidden from nobody are those of the table, without any that no event has."""
    rows = re.findall(r"^\| `[a-z_.]+` \|.*$", DOCUMENT, re.M)
    documented = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert EVENT_FACTS - documented == set()
