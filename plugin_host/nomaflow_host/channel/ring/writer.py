"""The worker's side of a ring: one record a line. It waits while the ring is full and drops nothing."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from typing import TYPE_CHECKING

from nomaflow_host.channel.ring.page import ARMED, DATA_BYTES, HEAD, STARVED, TAIL

if TYPE_CHECKING:
    from nomaflow_host.channel.ring.page import RingPage

_WAIT_MS = 200


class RingWriter:
    """Writes records from any thread.

    :param page: the mapped ring, which others may share
    :param doorbell: the eventfd that wakes the host
    :param room: the non-blocking eventfd that the host writes after it made room
    """

    def __init__(self, *, page: RingPage, doorbell: int, room: int) -> None:
        self._words = page.words
        self._data = page.data
        self._doorbell = doorbell
        self._room = room
        self._poll = select.poll()
        self._poll.register(room, select.POLLIN)
        self._lock = threading.RLock()
        self._publish = threading.Lock()
        self._writing = False
        self._nested: list[bytes] = []

    def write(self, record: bytes) -> None:
        """Write one whole record. Once this returns, the host will find it, even if this process dies next.

        A record larger than the ring would never fit; callers cut lines long before that.
        """
        with self._lock:
            if self._writing:
                # A finaliser or signal handler logged during a write of this thread.
                self._nested.append(record)
                return
            self._writing = True
            try:
                self._put(record)
                while self._nested:
                    self._put(self._nested.pop(0))
            finally:
                self._writing = False

    def _put(self, record: bytes) -> None:
        words, size = self._words, len(record)
        tail = words[TAIL]
        if DATA_BYTES - (tail - words[HEAD]) < size:
            self._wait_for_room(tail, size)
        at = tail % DATA_BYTES
        end = at + size
        if end <= DATA_BYTES:
            self._data[at:end] = record
        else:
            cut = DATA_BYTES - at
            self._data[at:] = record[:cut]
            self._data[: size - cut] = record[cut:]
        with self._publish:  # a memory barrier: the data must be visible before the tail that covers it
            pass
        words[TAIL] = tail + size
        if words[ARMED]:
            words[ARMED] = 0
            os.eventfd_write(self._doorbell, 1)

    def _wait_for_room(self, tail: int, size: int) -> None:
        words = self._words
        while True:
            words[STARVED] = 1
            if DATA_BYTES - (tail - words[HEAD]) >= size:
                break
            os.eventfd_write(self._doorbell, 1)
            # Short waits, so that an exception that the stop ladder raises in this thread gets through.
            self._poll.poll(_WAIT_MS)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._room)
        words[STARVED] = 0
