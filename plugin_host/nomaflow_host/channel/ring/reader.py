"""The host's side of a ring. Never waits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nomaflow_host.channel.ring.page import ARMED, DATA_BYTES, HEAD, STARVED, TAIL

if TYPE_CHECKING:
    from nomaflow_host.channel.ring.page import RingPage


class RingReader:
    """Reads whole records, even after the writer died.

    :ivar damaged: True if code on the writer's side has overwritten the header, or the end of a record, which would
        fill the host's memory; nothing can be read then
    :param page: the mapped ring
    :param room: the eventfd on which a starved writer waits
    """

    def __init__(self, *, page: RingPage, room: int) -> None:
        self._words = page.words
        self._data = page.data
        self._room = room
        self._head = page.words[HEAD]
        self._rest = b""
        self.damaged = False

    @property
    def tail(self) -> int:
        """The position up to which records were written."""
        return self._words[TAIL]

    @property
    def position(self) -> int:
        """The position up to which whole records were read."""
        return self._head - len(self._rest)

    def read(self, limit: int) -> list[bytes]:
        """Return waiting records of about *limit* bytes, without their line feeds, and make room for more."""
        words, ring, head = self._words, self._data, self._head
        waiting = words[TAIL] - head
        self.damaged = not 0 <= waiting <= DATA_BYTES or words[HEAD] != head or len(self._rest) > DATA_BYTES
        if self.damaged or not waiting:
            return []
        size = min(waiting, limit)
        at = head % DATA_BYTES
        end = at + size
        data = bytes(ring[at:end]) if end <= DATA_BYTES else bytes(ring[at:]) + bytes(ring[: end - DATA_BYTES])
        self._head = words[HEAD] = head + size
        if words[STARVED]:
            os.eventfd_write(self._room, 1)
        records = (self._rest + data).split(b"\n")
        self._rest = records.pop()
        return records

    def arm(self) -> bool:
        """Ask for the doorbell at the next record; return False if a record has arrived meanwhile, to be read first."""
        self._words[ARMED] = 1
        if self._words[TAIL] == self._head:
            return True
        self._words[ARMED] = 0
        return False
