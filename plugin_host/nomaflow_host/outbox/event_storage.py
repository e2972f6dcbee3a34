"""Storage for unacknowledged events: memory first, then files in the host's state directory.

The files are not synced: they outlive a kernel, not this process. A file is deleted once all of it is acknowledged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path

from nomaflow_host.process.errors import StateUnwritable

_log = logging.getLogger(__name__)

SEGMENT_BYTES = 8 << 20
_PROBE_BYTES = 1 << 20
_PROBE_SECONDS = 1.0
_EXCLUSIVE_SHARE = 0.9
_MEMORY_SHARE = 8


class MemoryBlock:
    """Consecutive encoded events in memory."""

    __slots__ = ("_events", "_store", "first_seq", "held_bytes")

    def __init__(self, *, store: SpillStore, first_seq: int) -> None:
        self._store = store
        self._events: deque[bytes] = deque()
        self.first_seq = first_seq
        self.held_bytes = 0

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return self.first_seq + len(self._events)

    def append(self, data: bytes, *, lines: int) -> None:
        """Keep one more event."""
        self._events.append(data)
        self.held_bytes += len(data)
        self._store.memory_bytes += len(data)

    def size(self, seq: int) -> int:
        """Return the size of an event in bytes."""
        return len(self._events[seq - self.first_seq])

    def read(self, seq: int) -> bytes:
        """Return an event."""
        return self._events[seq - self.first_seq]

    def drop_before(self, seq: int) -> None:
        """Forget the events numbered below *seq*."""
        while self._events and self.first_seq < seq:
            size = len(self._events.popleft())
            self.first_seq += 1
            self.held_bytes -= size
            self._store.memory_bytes -= size

    def close(self) -> None:
        """Forget everything."""
        self.drop_before(self.next_seq)


class Segment:
    """Consecutive encoded events in one file. Its descriptor stays open: the events survive a deletion of the file."""

    __slots__ = ("_ends", "_fd", "_lines", "_origin", "_path", "_store", "first_seq")

    def __init__(self, *, store: SpillStore, path: Path, first_seq: int) -> None:
        self._store = store
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._ends = array("Q")
        self._lines = array("I")
        self._origin = first_seq
        self.first_seq = first_seq

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return self._origin + len(self._ends)

    @property
    def full(self) -> bool:
        """True once the next event must go to another file."""
        return bool(self._ends) and self._ends[-1] >= SEGMENT_BYTES

    def append(self, data: bytes, *, lines: int) -> None:
        """Write one more event.

        :param lines: number of log lines in it
        :raises OSError: if the disk does not take it whole; the file stays as it was
        """
        start = self._ends[-1] if self._ends else 0
        view = memoryview(data)
        written = 0
        while written < len(data):
            written += os.pwrite(self._fd, view[written:], start + written)
        self._ends.append(start + written)
        self._lines.append(lines)
        self._store.spilled_bytes += written

    def size(self, seq: int) -> int:
        """Return the size of an event in bytes."""
        index = seq - self._origin
        return self._ends[index] - (self._ends[index - 1] if index else 0)

    def lines(self, seq: int) -> int:
        """Return the number of log lines in an event."""
        return self._lines[seq - self._origin]

    def read(self, seq: int) -> bytes:
        """Return an event from the file.

        :raises OSError: if the disk does not return it whole
        """
        size = self.size(seq)
        end = self._ends[seq - self._origin]
        data = os.pread(self._fd, size, end - size)
        if len(data) != size:
            raise OSError(f"the spill file {str(self._path)!r} was truncated by someone else")
        return data

    def drop_before(self, seq: int) -> None:
        """Forget the events numbered below *seq*; delete the file with the last of them."""
        while self.first_seq < min(seq, self.next_seq):
            size = self.size(self.first_seq)
            self.first_seq += 1
            self._store.spilled_bytes -= size

    def reserve(self, size: int) -> None:
        """Reserve *size* bytes on the disk for this file.

        :raises OSError: if the disk does not have them
        """
        os.posix_fallocate(self._fd, self._ends[-1] if self._ends else 0, size)

    def close(self) -> None:
        """Forget everything and delete the file."""
        self.drop_before(self.next_seq)
        os.close(self._fd)
        with contextlib.suppress(OSError):  # somebody has deleted it, or the disk has become read-only
            self._path.unlink()


Block = MemoryBlock | Segment


class SpillStore:
    """The storage that all attempts of a host share, in memory and on disk, with its limits.

    :param directory: made 0700; files of an earlier process in it are removed
    :param cap_bytes: maximum bytes in files
    :param memory_cap_bytes: bytes that all attempts together keep in memory before the next event goes to a file
    """

    def __init__(
        self,
        *,
        directory: Path,
        cap_bytes: int = 2 << 30,
        memory_cap_bytes: int = 32 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._cap = cap_bytes
        self._memory_cap = memory_cap_bytes
        self._clock = clock
        self._count = 0
        self._failed_at: float | None = None
        self.memory_bytes = 0
        self.spilled_bytes = 0
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in directory.glob("*.events"):
                leftover.unlink(missing_ok=True)
        except OSError as error:
            raise StateUnwritable(directory, error) from None

    @property
    def memory_full(self) -> bool:
        """True if the next event of any attempt goes to a file."""
        return self.memory_bytes >= self._memory_cap

    def has_room(self, *, exclusive: bool) -> bool:
        """Return False if workers have to wait: at the cap, exclusive ones first, or while the disk is full.

        A full disk stops holding workers back once all but an eighth of the memory limit has been delivered.
        """
        if self._failed_at is not None and not self._disk_recovered():
            return self.memory_bytes <= self._memory_cap // _MEMORY_SHARE
        return self.spilled_bytes < (self._cap * _EXCLUSIVE_SHARE if exclusive else self._cap)

    def open_segment(self, first_seq: int) -> Segment:
        """Return a new empty file.

        :raises OSError: if it cannot be made
        """
        self._count += 1
        path = self._directory / f"{os.getpid()}-{self._count}.events"
        return Segment(store=self, path=path, first_seq=first_seq)

    def disk_failed(self, error: OSError) -> None:
        """Record that a file could not be written: later events stay in memory, and workers are held back."""
        if self._failed_at is None:
            _log.error(
                "cannot write to %s: %s; workers wait until there is space again",
                self._directory,
                error.strerror or error,
            )
        self._failed_at = self._clock()

    def _disk_recovered(self) -> bool:
        assert self._failed_at is not None
        if self._clock() < self._failed_at + _PROBE_SECONDS:
            return False
        try:
            probe = self.open_segment(0)
            try:
                probe.reserve(_PROBE_BYTES)
            finally:
                probe.close()
        except OSError as error:
            self.disk_failed(error)
            return False
        _log.warning("%s can be written again", self._directory)
        self._failed_at = None
        return True
