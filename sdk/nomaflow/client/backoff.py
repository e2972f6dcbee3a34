"""Pauses between tries."""

from __future__ import annotations

import random


class Backoff:
    """Doubles from *first* to *most* seconds, each with a fifth of jitter either way."""

    def __init__(self, *, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._base = first

    def next(self) -> float:
        """Return the seconds to wait before the next try."""
        base, self._base = self._base, min(self._base * 2, self._most)
        return base * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    def reset(self) -> None:
        """Start again from *first*, after a success."""
        self._base = self._first
