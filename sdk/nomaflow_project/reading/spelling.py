"""Misspelt names: a key that is one edit away from the name it was meant for."""

from __future__ import annotations

import functools
from collections.abc import Iterable

_SHORTEST = 3
_DIGITS = str.maketrans("", "", "0123456789")


def misspelt_name(key: str, names: Iterable[str]) -> str:
    """Return the name of *names* that *key* is one edit away from; empty for none.

    An edit inserts, removes or replaces a character, or swaps two neighbours (a Damerau-Levenshtein distance of 1).
    Names of one or two letters are too short to tell, and names that differ in a digit, such as ``table1`` and
    ``table2``, count as intended.
    """
    return next((name for name in names if _is_misspelt(key, name)), "")


@functools.lru_cache(maxsize=4096)
def _is_misspelt(key: str, name: str) -> bool:
    if min(len(key), len(name)) < _SHORTEST or abs(len(key) - len(name)) > 1 or key == name:
        return False
    if key.translate(_DIGITS) == name.translate(_DIGITS):
        return False
    start = next((i for i, (a, b) in enumerate(zip(key, name, strict=False)) if a != b), min(len(key), len(name)))
    rest, other = key[start:], name[start:]
    swapped = rest[1::-1] == other[:2] and rest[2:] == other[2:]
    return rest[1:] == other[1:] or rest[1:] == other or rest == other[1:] or swapped
