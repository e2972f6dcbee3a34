"""Conditions of queries that mean the same on both databases, or that only one index answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, func, or_, tuple_

_CHUNK = 500
_T = TypeVar("_T")


def chunks(values: Iterable[_T]) -> Iterator[list[_T]]:
    """Yield values in lists that are short enough for one statement."""
    iterator = iter(values)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def equal(*pairs: tuple[ColumnElement[Any], Any]) -> list[ColumnElement[bool]]:
    """Return the condition of each column that is given a value; an empty one asks for nothing."""
    return [column == value for column, value in pairs if value]


def within(column: ColumnElement[int], since_us: int | None, until_us: int | None) -> list[ColumnElement[bool]]:
    """Return the conditions of times from an instant on, and before another; None stands for no end."""
    since = [] if since_us is None else [column >= since_us]
    return since if until_us is None else [*since, column < until_us]


def begins_with(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Return the condition that a column's value begins with a text, case-sensitive; no index answers it.

    SQLite's LIKE ignores case.
    """
    return func.substr(column, 1, len(text)) == text


def plain(column: ColumnElement[str]) -> ColumnElement[str]:
    """Return a column as an expression for which no index is used: another one is to be walked."""
    return column.concat("")


def is_by(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Return the condition that a column's value, such as ``alice (for bob)``, has a name as its principal or its note.

    No index answers it.
    """
    noted = f" (for {name})"
    end = func.substr(column, func.length(column) - len(noted) + 1)
    return or_(column == name, begins_with(column, f"{name} (for "), end == noted)


def of_value(
    column: ColumnElement[Any], key: ColumnElement[Any], value: Any, low: str = "", high: str = "~"
) -> list[ColumnElement[bool]]:
    """Return the conditions of rows with a value, from a key on and before another; order them by both columns.

    Asked for the newest rows of one value, ``value = 'x' ORDER BY key DESC LIMIT 50``, PostgreSQL may walk all keys
    from the newest on and leave other values out: quick if every value is as frequent at the end as anywhere, else a
    walk through the whole history. A comparison of both columns together, in the order of both, can be answered by
    their index only, whatever its statistics say.
    """
    both = tuple_(column, key)
    return [both >= tuple_(value, low), both < tuple_(value, high)]
