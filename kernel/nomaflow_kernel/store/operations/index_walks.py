"""Conditions that only one index answers in their order, so that PostgreSQL's statistics cannot favour another.

Asked for the newest rows of one value, ``value = 'x' ORDER BY key DESC LIMIT 50``, it may walk all keys from the newest
on and leave other values out: quick if every value is as frequent at the end as anywhere, otherwise a walk through the
whole history. A comparison of both columns together, in the order of both, can be answered by their index only.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, tuple_

__all__ = ["of_value"]


def of_value(
    column: ColumnElement[Any], key: ColumnElement[Any], value: Any, low: str = "", high: str = "~"
) -> list[ColumnElement[bool]]:
    """Return the conditions of rows with a value, from a key on and before another; order them by both columns."""
    both = tuple_(column, key)
    return [both >= tuple_(value, low), both < tuple_(value, high)]
