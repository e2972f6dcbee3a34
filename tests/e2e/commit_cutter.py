"""Stands between a kernel and PostgreSQL: lets commits through, and sometimes cuts the line before the answer comes back."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from pathlib import Path

from postgres_commits import CommitSigns

__all__ = ["CommitCutter"]

_SOCKET = ".s.PGSQL.5432"


class _Link:
    """One connection and its other half; once ``cut`` is set no answer passes any more."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        self.cut = False

    def close(self) -> None:
        """Close both ends."""
        for end in (self.near, self.far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class CommitCutter:
    """A proxy on a Unix socket in a folder.

    :param target: the folder of the server's own socket
    :param share: how many of all commits lose their answer, 0 to 1
    """

    def __init__(self, *, folder: Path, target: Path, share: float, chance: random.Random) -> None:
        self.cuts = 0
        self._target = target
        self._share = share
        self._chance = chance
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / _SOCKET))
        self._listener.listen()
        self._links: list[_Link] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Close every connection and wait for every thread."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for link in self._links:
            link.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                link = _Link(near, far)
                try:
                    far.connect(str(self._target / _SOCKET))
                except OSError:  # the server is being started again
                    link.close()
                    continue
                self._links.append(link)
                for work in (self._ask, self._answer):
                    self._threads.append(threading.Thread(target=work, args=(link,)))
                    self._threads[-1].start()

    def _ask(self, link: _Link) -> None:
        with contextlib.suppress(OSError):
            signs = CommitSigns()
            while data := link.near.recv(1 << 16):
                if signs.commits(data) and self._chance.random() < self._share:
                    self.cuts += 1
                    link.cut = True
                link.far.sendall(data)
        link.close()

    def _answer(self, link: _Link) -> None:
        with contextlib.suppress(OSError):
            while (data := link.far.recv(1 << 16)) and not link.cut:
                link.near.sendall(data)
        link.close()
