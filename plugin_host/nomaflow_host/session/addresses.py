"""Sources of the kernel's address: given ones, those of the kernel that the host has joined, or the project's file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from nomaflow_api.addresses import address_in, has_known_form, is_tcp, split_addresses, with_scheme
from nomaflow_project.reading.regular_files import file_stamp

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2
_MOST = 8
"""Each address that leads nowhere takes up to ten seconds of a host that looks for its kernel."""


class AddressSource:
    """Returns the addresses to try. The file is read each time, since a restarted kernel may have another address.

    :param given: addresses separated by commas; empty means those of the kernel that the host has joined
    :param joined: these; none means those in the file
    :param file: a file of one line, ``unix:/path/kernel.sock``, ``host:port`` or ``tls://host:port``
    """

    def __init__(self, *, given: str, joined: Sequence[str] = (), file: Path) -> None:
        self._fixed = split_addresses(given) or tuple(joined)
        self._learns = bool(joined) and not given
        self._file = file
        self._told = False

    @property
    def fixed(self) -> bool:
        """True if the addresses are not read from the file."""
        return bool(self._fixed)

    def current(self) -> tuple[str, ...]:
        """Return the current addresses; none if the file does not exist yet."""
        if self._fixed:
            return self._fixed
        try:
            return (address_in(self._file),)
        except (OSError, ValueError):
            return ()

    def learn(self, told: Iterable[str], *, at: str) -> tuple[str, ...]:
        """Take the addresses that a joined kernel tells; return all known ones if they have changed, otherwise none.

        What is told may be wrong, so nothing that has worked is lost for it. Addresses that a person gives stay alone.

        :param told: come first; those that are not on TCP or have an unknown form are left out
        :param at: the address that leads to this kernel now; comes next, and the others known so far follow
        """
        fit = [with_scheme(each) for each in told if is_tcp(each) and has_known_form(each)]
        known = tuple(dict.fromkeys((*fit[: _MOST - 1], with_scheme(at), *self._fixed)))[:_MOST]
        if not fit or not self._learns or known == self._fixed:
            return ()
        self._fixed = known
        return known

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
        before, until = file_stamp(self._file), loop.time() + seconds
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(left if self._fixed else min(left, _LOOK_SECONDS))
            if not self._fixed and file_stamp(self._file) != before:
                return
