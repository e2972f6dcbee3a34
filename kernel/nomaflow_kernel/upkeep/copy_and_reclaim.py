"""Moving a history between databases, for the command line."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from nomaflow_kernel.store.errors import MaintenanceRefused, StoreError, StoreMoved, StoreUnfinished
from nomaflow_kernel.store.history_copy import StorePlace, copy_store, reclaim_store

_SHOWN_EVERY_SECONDS = 0.2


class _Progress:
    """A progress line on a terminal, overwritten each time."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()
        self._rows = 0
        self._shown_at = 0.0

    def add(self, table: str, rows: int) -> None:
        self._rows += rows
        now = time.monotonic()
        if self._shows and now - self._shown_at > _SHOWN_EVERY_SECONDS:
            self._shown_at = now
            sys.stderr.write(f"\r\x1b[K{self._rows:,} rows copied or compared, now {table}")
            sys.stderr.flush()

    def end(self) -> None:
        if self._shows:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def copy_history_to(source: str, target: str) -> dict[str, Any]:
    """Move a history from one store to an empty one; no kernel starts on the old one then.

    :return: both stores, the number of rows of each table, and the newest event, JSON-ready
    :raises MaintenanceRefused: if it may not be moved, or a store fails; the same command again goes on from there
    :raises UnsupportedStore: if a URL names no store
    """
    began = time.perf_counter()
    places = StorePlace(source), StorePlace(target)
    progress = _Progress()
    try:
        rows, last_event_seq = asyncio.run(copy_store(*places, progress=progress.add))
    except StoreError as error:
        raise _refusal(error, fix="correct that, then copy again") from None
    finally:
        progress.end()
    return {
        "source": places[0].shown,
        "target": places[1].shown,
        "rows": rows,
        "last_event_seq": last_event_seq,
        "seconds": time.perf_counter() - began,
    }


def reclaim_history(store: str) -> dict[str, Any]:
    """Take a moved history back.

    :return: the store, and the one that it had been moved to, JSON-ready
    :raises MaintenanceRefused: if it was not moved, or the store is held or fails
    :raises UnsupportedStore: if the URL names no store
    """
    place = StorePlace(store)
    try:
        moved_to = asyncio.run(reclaim_store(place, now_us=time.time_ns() // 1000))
    except StoreError as error:
        raise _refusal(error, fix="correct that, then repeat the command; nothing was changed") from None
    return {"store": place.shown, "moved_to": moved_to}


def _refusal(error: StoreError, *, fix: str) -> MaintenanceRefused:
    if isinstance(error, StoreMoved | StoreUnfinished):
        message, _, fix = error.message.partition("; ")
        return MaintenanceRefused(message, reason=error.reason, fix=fix)
    return MaintenanceRefused(error.message, reason="COPY_FAILED", fix=fix)
