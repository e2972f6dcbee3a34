"""Watches the jobs file that the kernel was given, and has it read again after each save."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from nomaflow_kernel.domain.errors import KernelError

_LOG = logging.getLogger(__name__)
_SETTLE_MS = 200


async def watch_jobs_file(path: Path, on_change: Callable[[], Awaitable[object]]) -> None:
    """Call back after each change of a file, until cancelled. Editors replace files, so the folder is watched.

    :param on_change: may raise the kernel's errors, which are logged; the next save tries again
    """
    from watchfiles import awatch  # most kernels are given no jobs file

    try:
        async for _ in awatch(
            path.parent,
            watch_filter=lambda _, changed: Path(changed).name == path.name,
            debounce=_SETTLE_MS,
            recursive=False,
        ):
            _LOG.info("%s was saved; reading it", path)
            try:
                await on_change()
            except KernelError as error:
                _LOG.warning("%s could not be loaded: %s", path, error.message)
    except OSError as error:
        _LOG.warning("the folder of %s cannot be watched, send SIGHUP after a change: %s", path, error)
