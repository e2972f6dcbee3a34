"""Marks for the fields of values, given with ``Annotated``."""

from __future__ import annotations

REMEMBERED = "remembered"
"""Marks a list that is decoded again and again with few changes: ``Annotated[tuple[T, ...], REMEMBERED]``."""
