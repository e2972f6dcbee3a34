"""The host's side of a ring. Never waits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nomaflow_host.channel.ring.page import DATA_BYTES

if TYPE_CHECKING:
    from nomaflow_host.channel.ring.page import RingPage

_ONE = (1).to_bytes(8, "little")


class RingReader:
    """Reads whole records, even after the writer died.

    :ivar damaged: True if code on the writer's side has overwritten the header; nothing can be read then
    :param page: the mapped ring
    :param room: the eventfd on which a starved writer waits
    """

    def __init__(self, *, page: RingPage, room: int) -> None:
        self._page = page
        self._room = room
        self._head = page.head
        self._rest = b""
        self.damaged = False

    @property
    def tail(self) -> int:
        """The position up to which records were written."""
        return self._page.tail

    @property
    def position(self) -> int:
        """The position up to which whole records were read."""
        return self._head - len(self._rest)

    def read(self, limit: int) -> list[bytes]:
        """Return waiting records of about *limit* bytes, without their line feeds, and make room for more."""
        page = self._page
        head, waiting = self._head, page.tail - self._head
        self.damaged = not 0 <= waiting <= DATA_BYTES or page.head != head
        if self.damaged or not waiting:
            return []
        size = min(waiting, limit)
        at = head % DATA_BYTES
        end = at + size
        data = (
            bytes(page.data[at:end])
            if end <= DATA_BYTES
            else bytes(page.data[at:]) + bytes(page.data[: end - DATA_BYTES])
        )
        self._head = page.head = head + size
        if page.starved:
            os.write(self._room, _ONE)
        records = (self._rest + data).split(b"\n")
        self._rest = records.pop()
        return records

    def arm(self) -> bool:
        """Ask for the doorbell at the next record; return False if a record has arrived meanwhile, to be read first."""
        self._page.armed = True
        if self._page.tail == self._head:
            return True
        self._page.armed = False
        return False
