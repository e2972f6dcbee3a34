"""Watches the jobs file that was named to the kernel, and has it read again after each save."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from watchfiles import awatch

from nomaflow_kernel.domain.errors import KernelError

__all__ = ["JobsFileWatch"]

_LOG = logging.getLogger(__name__)
_SETTLE_MS = 200


class JobsFileWatch:
    """Calls back after each change of a file. Editors replace files, so the folder is watched.

    :param path: None to watch nothing
    :param on_change: may raise the kernel's errors, which are logged; the next save tries again
    """

    def __init__(self, *, path: Path | None, on_change: Callable[[], Awaitable[object]]) -> None:
        self._path = path
        self._on_change = on_change
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start watching."""
        if self._path is not None:
            self._task = asyncio.create_task(self._run(self._path), name="jobs-file")

    async def stop(self) -> None:
        """Stop watching. Stopping twice is allowed."""
        self._stopping.set()
        task, self._task = self._task, None
        if task is not None:
            await task

    async def _run(self, path: Path) -> None:
        def is_it(_change: object, changed: str) -> bool:
            return Path(changed).name == path.name

        try:
            async for _ in awatch(
                path.parent, watch_filter=is_it, stop_event=self._stopping, debounce=_SETTLE_MS, recursive=False
            ):
                await self._tell(path)
        except OSError as error:
            _LOG.warning("the folder of %s cannot be watched, send SIGHUP after a change: %s", path, error)

    async def _tell(self, path: Path) -> None:
        _LOG.info("%s was saved; reading it", path)
        try:
            await self._on_change()
        except KernelError as error:
            _LOG.warning("%s could not be taken in: %s", path, error.message)
