"""W3C trace contexts, and the derivation of our own span ids from keys.

Derived ids need not be stored: a restarted kernel and an attempt's host get the same span ids. Needs the standard
library only.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span's position in a trace; ids in lower-case hexadecimal.

    :param sampled: whether the spans of the trace are kept
    """

    trace_id: str
    span_id: str
    sampled: bool = True

    @classmethod
    def parse(cls, traceparent: str) -> TraceContext | None:
        """Return the context of a ``traceparent`` header; None for none, or one that breaks the standard's rules."""
        found = _HEADER.fullmatch(traceparent) if len(traceparent) < 256 else None
        if found is None:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
            return None
        return cls(trace_id, span_id, bool(int(flags, 16) & 1))

    @property
    def header(self) -> str:
        """The ``traceparent`` header."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def trace_id_of(run_id: str) -> str:
    """Return the trace id of a run without a parent trace."""
    return hashlib.sha256(f"trace {run_id}".encode()).hexdigest()[:32]


def span_id_of(key: str) -> str:
    """Return the span id of a run, by its id, or of an attempt, by its key."""
    return hashlib.sha256(f"span {key}".encode()).hexdigest()[:16]


def callable_span_id(attempt_key: str) -> str:
    """Return the span id of an attempt's callable: the parent of spans from the callable's own code."""
    return span_id_of(f"{attempt_key}#callable")
