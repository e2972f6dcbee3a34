"""Near matches: the known names that a misspelt one was probably meant to be. Every package asks here.

A search is bounded whatever the names are: in the length of what is compared, and in time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice

_SECONDS = 0.02
"""The time of one search: 100,000 names of 30 characters."""
_LONGEST = 256
"""The longest name that is compared, in characters. A longer one is near to none: nobody can read it anyway."""
_CUTOFF = 60.0
"""The least similarity, of 100: two thirds of the characters in the same order."""
_CHUNK = 2_000
"""The number of names between two looks at the clock."""


def near_names(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """Return the known names that are most similar to a misspelt one, the nearest first; none if none is near.

    Upper and lower case count as equal.

    :param known: may be endless: once the time is up, the rest is not looked at
    :param most: how many to return at most
    """
    if not name or len(name) > _LONGEST:
        return []
    from rapidfuzz import fuzz, process  # loaded for a mistake only

    end = time.monotonic() + _SECONDS
    found: list[tuple[float, str]] = []
    rest = iter(known)
    asked = name.casefold()
    while chunk := list(islice(rest, _CHUNK)):
        chunk = [each for each in chunk if len(each) <= _LONGEST]
        folded = [each.casefold() for each in chunk]
        near = process.extract(asked, folded, scorer=fuzz.ratio, score_cutoff=_CUTOFF, limit=most)
        found = sorted([*found, *((score, chunk[index]) for _, score, index in near)], key=lambda each: -each[0])[:most]
        if time.monotonic() > end:
            break
    return [each for _, each in found]


def near_name(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most similar to a misspelt one; empty if none is near."""
    return next(iter(near_names(name, known, most=1)), "")
