"""Pauses between tries."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Doubles from *first* to *most* seconds, each with a fifth of jitter either way."""

    def __init__(self, *, first: float, most: float, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._first = first
        self._most = most
        self._draw = draw
        self._base = first

    def next(self) -> float:
        """Return the seconds to wait before the next try."""
        base, self._base = self._base, min(self._base * 2, self._most)
        return base * self._draw(0.8, 1.2)

    def reset(self) -> None:
        """Start again from *first*, after a success."""
        self._base = self._first
