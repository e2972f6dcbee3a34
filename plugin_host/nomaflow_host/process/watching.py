"""Watches the folders of a project for saves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from watchfiles import DefaultFilter, awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

from nomaflow_host.supervisor.disk_stamp import SOURCE_SUFFIXES

_log = logging.getLogger(__name__)

_BURST_MS = 400  # the longest time for which saves in quick succession delay a load
_LOOK_MS = 1_000
_FAILED = "watching the project failed and is tried again each second, so saves may be loaded late: %s"


class _ProjectFilter(DefaultFilter):
    """Lets through files that may be code, jobs, or a folder of them, and nothing that the host itself writes."""

    ignore_dirs = (*DefaultFilter.ignore_dirs, ".nomaflow")


async def saves(folders: Sequence[Path], *, until: asyncio.Event) -> AsyncIterator[bool]:
    """Yield after each burst of events, and each second without one: True if a source was among the saved files.

    A watch that fails, as at a file name that is not UTF-8, is logged once and started again after a second.
    """
    level = logging.WARNING
    while not until.is_set():
        try:
            async for changes in awatch(
                *folders,
                watch_filter=_ProjectFilter(),
                debounce=_BURST_MS,
                rust_timeout=_LOOK_MS,
                yield_on_timeout=True,
                ignore_permission_denied=True,
                stop_event=until,
            ):
                yield any(path.endswith(SOURCE_SUFFIXES) for _, path in changes)
        except* (WatchfilesRustInternalError, OSError) as failed:
            _log.log(level, _FAILED, failed.exceptions[0])
            level = logging.DEBUG
            await asyncio.sleep(_LOOK_MS / 1000)
            yield False
