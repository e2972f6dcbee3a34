"""Pauses between tries."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """Delays that double from ``first`` to ``most`` seconds, each spread by a fifth either way.

    :param draw: returns a number from 0 to 1
    """

    def __init__(
        self,
        *,
        first: float = 0.1,
        most: float = 2.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._first = first
        self._most = most
        self._draw = draw
        self._next = first

    def reset(self) -> None:
        """Start again at ``first``."""
        self._next = self._first

    def delay(self) -> float:
        """Return the seconds to wait now; the next result is longer."""
        delay = self._next * (0.8 + 0.4 * self._draw())
        self._next = min(self._next * 2, self._most)
        return delay
