"""Time spans as people read them. Every package and page writes them in this form."""

from __future__ import annotations

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_IN_TWO = ((_DAY, "d", _HOUR, 1, "h"), (_HOUR, "h", _MINUTE, 2, "min"), (_MINUTE, "min", 1, 2, "s"))
"""Units with the next smaller ones, of which none are not named."""


def time_span(seconds: float) -> str:
    """Return a time span: ``12 ms``, ``0.4 s``, ``41 s``, ``3 min 05 s``, ``3 min``, ``2 h 07 min``, ``3 d 4 h``.

    A negative one, which clocks that differ may yield, counts as none.
    """
    span = max(seconds, 0.0)
    if span < 0.0995:
        return f"{round(span * 1000)} ms"
    if span < 9.95:
        return f"{round(span, 1):g} s"
    whole = round(span)
    for size, unit, part, digits, smaller in _IN_TWO:
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size:,} {unit}" + (f" {rest:0{digits}d} {smaller}" if rest else "")
    return f"{whole} s"


def rough_span(seconds: float) -> str:
    """Return a time span in its largest unit, rounded down: ``41 s``, ``14 min``, ``2 h``, ``12 d``."""
    span = int(max(seconds, 0.0))
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if span >= size:
            return f"{span // size:,} {unit}"
    return f"{span} s"
