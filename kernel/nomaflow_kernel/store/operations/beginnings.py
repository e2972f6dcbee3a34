"""Texts that begin with a text, on each database to the letter: LIKE of SQLite takes capitals for small letters."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func

__all__ = ["begins_with"]


def begins_with(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Return the condition that a column's value begins with a text; no index answers it."""
    return func.substr(column, 1, len(text)) == text
