"""The socket of a service manager that is a test: it keeps what processes tell it."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from waiting import PATIENCE

__all__ = ["NotifySocket", "Told"]

Told = dict[str, str]


class NotifySocket:
    """A datagram socket bound to a path, or to an abstract name.

    :ivar address: the value of ``NOTIFY_SOCKET``
    :ivar told: every message so far, in order
    """

    def __init__(self, address: str | Path) -> None:
        self.address = str(address)
        self.told: list[Told] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:] if self.address.startswith("@") else self.address)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor, for ``select``."""
        return self._socket.fileno()

    def receive(self) -> Told:
        """Receive one waiting message.

        :raises BlockingIOError: where there is none
        """
        lines = self._socket.recv(65_536).decode().split("\n")
        self.told.append(dict(line.split("=", 1) for line in lines))
        return self.told[-1]

    def wait_for(self, wanted: Callable[[Told], object], *, seconds: float = PATIENCE) -> Told:
        """Return the first message from now on that is wanted."""
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            assert left > 0, f"not told within {seconds:g} s; told was {self.told[-5:]}"
            if select.select([self], [], [], left)[0] and wanted(told := self.receive()):
                return told

    def drain(self) -> None:
        """Take everything that is there."""
        while select.select([self], [], [], 0)[0]:
            self.receive()

    def quiet_for(self, seconds: float) -> bool:
        """Return True if no message arrives for a while."""
        return not select.select([self], [], [], seconds)[0]

    def close(self) -> None:
        """Close it."""
        self._socket.close()
