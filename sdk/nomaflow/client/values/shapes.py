"""The JSON shapes of docs/cli.md, which follow from the fields of the values."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_type_hints

from msgspec import Struct

from nomaflow_api.bounds import LAST_MOMENT_US

__all__ = ["HIDDEN", "NULL_IF_EMPTY", "NullableCount", "NullableText", "Shaped", "from_micros", "iso", "iso_micros"]

NULL_IF_EMPTY = "null if empty"
"""Marks a field that is null in JSON if it is empty or 0."""
HIDDEN = "hidden"
"""Marks a field that the JSON shape does not have: ``Annotated[int, HIDDEN]``."""
IF_KNOWN = "if known"
"""Marks a field that the JSON shape has only if it is neither empty nor None."""

NullableText = Annotated[str, NULL_IF_EMPTY]
"""Text; null in JSON if empty."""
NullableCount = Annotated[int, NULL_IF_EMPTY]
"""A number; null in JSON if 0."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Shaped(Struct, frozen=True):
    """A value with a JSON shape: its fields in their order, a ``reason`` as the two keys of code and message.

    A field has its own name there, or the one that `msgspec.field` gives it.
    """

    def to_json(self) -> dict[str, Any]:
        """Return the value in the shape of docs/cli.md."""
        shape: dict[str, Any] = {}
        for name, key, marks in _shown(type(self)):
            value = getattr(self, name)
            if name == "reason":
                shape["reason"], shape["reason_message"] = (value.code, value.message) if value else (None, None)
            elif value or IF_KNOWN not in marks:
                shape[key] = None if NULL_IF_EMPTY in marks and not value else _json(value)
        return shape


@functools.cache
def _shown(kind: type[Shaped]) -> list[tuple[str, str, Any]]:
    """Return for each field in JSON the names of attribute and key, and its marks."""
    marks = {
        name: getattr(hint, "__metadata__", ()) for name, hint in get_type_hints(kind, include_extras=True).items()
    }
    names = zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
    return [(name, key, marks[name]) for name, key in names if HIDDEN not in marks[name]]


def _json(value: Any) -> Any:
    if isinstance(value, Shaped):
        return value.to_json()
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, tuple):
        return [_json(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value


def iso(instant: datetime | None) -> str | None:
    """Return an aware instant as ISO 8601 text in UTC with a final Z; None for None."""
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_micros(micros: int) -> datetime:
    """Return the aware UTC instant of microseconds since the epoch, without going through a float.

    A time beyond the calendar becomes the nearest one within it.
    """
    return _EPOCH + timedelta(microseconds=min(max(micros, 0), LAST_MOMENT_US))


def iso_micros(micros: int) -> str:
    """Return microseconds since the epoch as ISO text in UTC."""
    return iso(from_micros(micros)) or ""
