"""Misspelt names: a key or a variable that is one edit away from the name it was meant for."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from types import MappingProxyType

_SHORTEST = 3
_DIGITS = str.maketrans("", "", "0123456789")


def misspelt_name(key: str, names: Iterable[str]) -> str:
    """Return the name that *key* is one edit away from, best one that begins with it; empty for none.

    An edit inserts, removes or replaces a character, or swaps two neighbours (a Damerau-Levenshtein distance of 1).
    Names of one or two letters are too short to tell, and names that differ in a digit, such as ``table1`` and
    ``table2``, count as intended.
    """
    near = [name for name in names if _is_misspelt(key, name)]
    return next((name for name in near if name.startswith(key)), near[0] if near else "")


def wrong_variable(
    names: Iterable[str],
    *,
    prefix: str,
    keys: Iterable[str],
    variables: Mapping[str, str],
    others: Iterable[str] = (),
    replaced: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return what is wrong with a variable of a process's own: named after a key that it does not set, or misspelt.

    Other variables are not the process's business: Kubernetes sets some for a service that is called nomaflow-kernel.

    :param names: the variables that are set
    :param prefix: the beginning of the process's own variables, such as ``NOMAFLOW_HOST_``
    :param keys: the keys of the process's section in nomaflow.toml
    :param variables: the variable of each key that has one
    :param others: further variables that the process reads
    :param replaced: keys that are gone, each with what to do instead
    :return: a sentence; empty if all is well
    """
    known = {*variables.values(), *others}
    by_name = {prefix + key.upper(): key for key in (*keys, *replaced)}
    for name in names:
        if not name.startswith(prefix) or name in known:
            continue
        meant = name if name in by_name else misspelt_name(name, sorted({*known, *by_name}))
        if meant in known:
            return f"{name} is unknown; did you mean {meant}?"
        if key := by_name.get(meant):
            instead = f"the variable is {variables[key]}" if key in variables else f"write {key} in nomaflow.toml"
            return f"{name} has no meaning: {replaced.get(key, instead)}"
    return ""


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
