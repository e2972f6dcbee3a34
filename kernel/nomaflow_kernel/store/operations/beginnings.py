"""Conditions that a text begins or ends with another, case-sensitive on both databases: SQLite's LIKE ignores case."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, or_

__all__ = ["begins_with", "is_by"]


def begins_with(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Return the condition that a column's value begins with a text; no index answers it."""
    return func.substr(column, 1, len(text)) == text


def is_by(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Return the condition that a column's value, such as ``alice (for bob)``, has a name as its principal or its note.

    No index answers it.
    """
    noted = f" (for {name})"
    end = func.substr(column, func.length(column) - len(noted) + 1)
    return or_(column == name, begins_with(column, f"{name} (for "), end == noted)
