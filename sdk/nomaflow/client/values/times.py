"""Instants in JSON: ISO 8601 in UTC with a final Z."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["from_micros", "iso", "iso_micros"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(instant: datetime | None) -> str | None:
    """Return an aware instant as ISO text in UTC; None for None."""
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_micros(micros: int) -> datetime:
    """Return the aware UTC instant of microseconds since the epoch, without going through a float."""
    return _EPOCH + timedelta(microseconds=micros)


def iso_micros(micros: int) -> str:
    """Return microseconds since the epoch as ISO text in UTC."""
    return iso(from_micros(micros)) or ""
