"""Choices made by bytes: whoever draws the bytes decides what is made of them, and the same bytes make the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Choices"]

T = TypeVar("T")


class Choices:
    """A source of decisions. Once its bytes are used up it always chooses the first, so that everything ends."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, below: int) -> int:
        """Return a number from 0 up to, and without, a bound."""
        size = max(1, ((below - 1).bit_length() + 7) // 8)
        return int.from_bytes(self.blob(size), "big") % below

    def pick(self, among: Sequence[T]) -> T:
        """Return one of several."""
        return among[self.number(len(among))]

    def chance(self, percent: int) -> bool:
        """Return True in so many of a hundred cases; False once the bytes are used up."""
        return self.blob(1)[0] * 100 // 256 >= 100 - percent

    def blob(self, size: int) -> bytes:
        """Return so many bytes; zeros once they are used up."""
        found = self._data[self._at : self._at + size]
        self._at += size
        return found.ljust(size, b"\0")
