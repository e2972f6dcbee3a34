"""Facts that a host reports about an attempt besides its outcome: its stop, the end of its process, and its log."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from nomaflow_api.v1.letters import Stopping


class AttemptFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts of one attempt.

    :param rungs: of the ladder by which it was stopped, in order; empty if nobody stopped it
    :param stopped_at_us: when none of its code ran any more, by the host's clock; 0 if it was not stopped by the ladder
    :param exit_status: that of its worker's process; None if that lives on, was ended by a signal or is not known
    :param exit_signal: the signal that ended that process; 0 for none
    :param exit_text: how it ended, in words; empty if it lives on
    :param warnings: notes of the host and of the worker
    :param dropped_lines: lines of its log that were over its limit
    :param dropped_bytes: their size in bytes
    :param lost_lines: lines of its log that the host lost
    :param complete: whether its last report is stored, and no event before it is missing
    """

    rungs: tuple[Stopping, ...] = ()
    stopped_at_us: int = 0
    exit_status: int | None = None
    exit_signal: int = 0
    exit_text: str = ""
    warnings: tuple[str, ...] = ()
    dropped_lines: int = 0
    dropped_bytes: int = 0
    lost_lines: int = 0
    complete: bool = False


NO_FACTS = AttemptFacts()
"""The facts of an attempt of which nothing was reported."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AttemptFacts).decode


def dump_facts(facts: AttemptFacts) -> str:
    """Return the text that is stored; empty for no facts."""
    return "" if facts is NO_FACTS else _encode(facts).decode()


def load_facts(text: str) -> AttemptFacts:
    """Return the facts that were stored; keys of a newer version are ignored."""
    return _decode(text) if text else NO_FACTS
