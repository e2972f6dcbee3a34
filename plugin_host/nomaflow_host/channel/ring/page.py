"""The layout of a ring: a header page, then the data.

The worker owns the tail, the host the head; both only grow, and a byte lies at ``position % size``. The data
between head and tail is always whole records. A record is three digits of slot and one encoded line.

====== ===== =======================================================================================================
offset bytes what
====== ===== =======================================================================================================
0      8     tail: how many bytes the worker has written
8      8     head: how many bytes the host has read
16     8     armed: not 0 while the host sleeps and wants the doorbell rung at the next record
24     8     starved: not 0 while the worker waits for room
32     8     beat: when the worker's event loop last turned, monotonic nanoseconds; 0 while it may sleep
40     8     blocker: 1 + the slot whose code was found on the blocked event loop; 0 for none
1024   1000  cancel bytes, one for each slot
====== ===== =======================================================================================================
"""

from __future__ import annotations

import fcntl
import mmap
import os

DATA_BYTES = 1024 * 1024
MAX_SLOTS = 1000
_PAGE = 4096
TAIL, HEAD, ARMED, STARVED, _BEAT, _BLOCKER = range(6)
_CANCEL_AT = 1024


def create_ring_memory() -> int:
    """Return a descriptor of new shared memory for one ring. Pages are allocated when they are first written.

    The size is sealed: code that truncated the memory would end both processes that have it mapped, with SIGBUS.
    """
    fd = os.memfd_create("nomaflow-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, _PAGE + DATA_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


class RingPage:
    """The mapped memory of one ring, for either side. Words are written whole, so that no reader sees half a word.

    :param fd: a descriptor from `create_ring_memory`, perhaps of another process; not kept
    :ivar words: the header by `TAIL`, `HEAD`, `ARMED` and `STARVED`
    """

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _PAGE + DATA_BYTES)
        self._bytes = memoryview(self._map)
        self.words = self._bytes[:_CANCEL_AT].cast("Q")
        self.cancelled = self._bytes[_CANCEL_AT : _CANCEL_AT + MAX_SLOTS]
        self.data = self._bytes[_PAGE:]

    @property
    def beat_ns(self) -> int:
        """Time of the last turn of the worker's loop, monotonic nanoseconds; 0 while it may sleep."""
        return self.words[_BEAT]

    @beat_ns.setter
    def beat_ns(self, value: int) -> None:
        self.words[_BEAT] = value

    @property
    def blocker(self) -> int | None:
        """The slot whose code was found on the blocked loop; None if there is none."""
        return self.words[_BLOCKER] - 1 if self.words[_BLOCKER] else None

    @blocker.setter
    def blocker(self, slot: int | None) -> None:
        self.words[_BLOCKER] = 0 if slot is None else slot + 1

    def close(self) -> None:
        """Unmap the memory."""
        for view in (self.words, self.cancelled, self.data, self._bytes):
            view.release()
        self._map.close()
