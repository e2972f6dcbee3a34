"""Levels of log lines: those of lines that are printed, and sets of levels.

In a set, bit n stands for the levels from 10·n to 10·n+9, the last bit for all above too.
"""

from __future__ import annotations

PRINTED_LEVELS = {"stdout": 20, "stderr": 30}
"""The levels of lines that code prints, or a program that it starts, by the stream."""

LEVEL_BITS = 7
ALL_LEVELS = (1 << LEVEL_BITS) - 1


def levels_from(level: int) -> int:
    """Return the set of all levels that may include a level or a higher one."""
    lowest = max(0, min(level // 10, LEVEL_BITS - 1))
    return ALL_LEVELS >> lowest << lowest
