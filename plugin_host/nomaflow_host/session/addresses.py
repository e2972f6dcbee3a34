"""Sources of the kernel's address: a given one, or the file in which the project's kernel writes its own."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from nomaflow.client import split_addresses

__all__ = ["AddressSource"]

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2


class AddressSource:
    """Returns the addresses to try. The file is read each time, since a restarted kernel may have another address.

    :param given: addresses separated by commas; empty means those in the file
    :param file: a file of one line, ``unix:/path/kernel.sock``, ``host:port`` or ``tls://host:port``
    """

    def __init__(self, *, given: str, file: Path) -> None:
        self._given = split_addresses(given)
        self._file = file
        self._told = False

    @property
    def given(self) -> bool:
        """True if the addresses were given and not read from the file."""
        return bool(self._given)

    def current(self) -> tuple[str, ...]:
        """Return the current addresses; none if the file does not exist yet."""
        if self._given:
            return self._given
        try:
            line = self._file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ()
        return (line,) if line else ()

    async def wait(self) -> tuple[str, ...]:
        """Return the addresses; if there is no file, wait for it and log that once."""
        while not (found := self.current()):
            if not self._told:
                _log.warning(
                    "waiting for a kernel to write its address to %s: start this project's with `nomaflow up`, "
                    "or join one elsewhere with --join FILE",
                    self._file,
                )
                self._told = True
            await asyncio.sleep(_LOOK_SECONDS)
        return found

    async def changed(self, seconds: float) -> None:
        """Return after *seconds*, or as soon as the file has changed."""
        loop = asyncio.get_running_loop()
        before, until = self._stamp(), loop.time() + seconds
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(left if self._given else min(left, _LOOK_SECONDS))
            if not self._given and self._stamp() != before:
                return

    def _stamp(self) -> tuple[int, ...]:
        try:
            status = self._file.stat()
        except OSError:
            return ()
        return (status.st_ino, status.st_mtime_ns, status.st_size)
