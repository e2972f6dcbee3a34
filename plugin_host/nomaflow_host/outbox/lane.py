"""The numbered events of one attempt, from the first unacknowledged one to the newest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from nomaflow_api.v1.letters import AttemptReport, DispatchOrder, Progress
from nomaflow_host.outbox.event_storage import Block, MemoryBlock, Segment, SpillStore

_MEMORY_BYTES = 8 << 20


class Lane:
    """The events of one attempt.

    ``acked`` is the highest number the kernel has acknowledged, ``sent`` the highest in the batch under way,
    ``next_seq`` the number of the next event. Events ``acked + 1`` to ``next_seq - 1`` are held, oldest first, in
    blocks: in memory up to a limit, in files beyond.

    :param order: its envelope, without the letter
    :param tell_loss: returns the event that replaces an unreadable one with that many log lines
    """

    def __init__(self, *, order: DispatchOrder, store: SpillStore, tell_loss: Callable[[int, OSError], bytes]) -> None:
        self.order = order
        self.refused = False
        self._tell_loss = tell_loss
        self.acked = 0
        self.sent = 0
        self.next_seq = 1
        self.started: tuple[int, bytes] | None = None
        self.finished: bytes | None = None
        self.progress: Progress | None = None
        self.progress_sent_at = float("-inf")
        self.parked_until = float("-inf")
        self.lingers = False
        self.stalls = 0
        self.muted = False
        self.rejected = ""
        self._store = store
        self._spilling = False
        self._blocks: deque[Block] = deque()

    @property
    def last_seq(self) -> int:
        """The number of the newest event, 0 before the first."""
        return self.next_seq - 1

    @property
    def unsent(self) -> bool:
        """True if an event has not been put into a batch since the last rewind."""
        return self.sent < self.last_seq

    @property
    def under_way(self) -> bool:
        """True while a batch with events of it is under way: later ones wait, so that they arrive in order."""
        return self.sent > self.acked

    @property
    def done(self) -> bool:
        """True once everything up to the outcome is acknowledged."""
        return self.finished is not None and self.acked >= self.last_seq

    def append(self, data: bytes, *, lines: int = 0) -> None:
        """Number one encoded event and keep it. It never fails: if the disk does, the event stays in memory.

        :param lines: number of log lines in it
        """
        if self._wants_disk():
            self._append_to_disk(data, lines)
        else:
            self._append_to_memory(data, lines)
        self.next_seq += 1

    def read(self, seq: int, block: Block) -> bytes:
        """Return a held event.

        If its file cannot be read, the start and the outcome come from memory, and one line that states the loss
        replaces log lines or progress. The later events keep their numbers.
        """
        if not isinstance(block, Segment):
            return block.read(seq)
        try:
            return block.read(seq)
        except OSError as error:
            if self.started is not None and seq == self.started[0]:
                return self.started[1]
            if self.finished is not None and seq == self.last_seq:
                return self.finished
            return self._tell_loss(block.lines(seq), error)

    def pending(self) -> Iterator[tuple[int, Block]]:
        """Yield number and block of each event after ``sent``, in order. Any change invalidates the iterator."""
        for block in self._blocks:
            for seq in range(max(block.first_seq, self.sent + 1), block.next_seq):
                yield seq, block

    def acknowledge(self, seq: int) -> bool:
        """Forget acknowledged events and rewind to the first unacknowledged one.

        :returns: False if the kernel names events that are gone or never existed: the lane has to be restarted then
        """
        sane = self.acked <= seq <= self.last_seq
        self.acked = self.sent = min(seq, self.last_seq)
        self._drop_acknowledged()
        return sane

    def last_words(self) -> AttemptReport:
        """Return the last event again, for an attempt that has nothing unacknowledged."""
        key = self.order.attempt_key
        if self.started is None:
            return AttemptReport(attempt_key=key, first_seq=self.next_seq)
        seq, data = self.started
        return AttemptReport(attempt_key=key, first_seq=seq, events=(data,))

    def restart(self, acked: int) -> None:
        """Discard the held events in memory and files, and continue the numbers after *acked*."""
        self.acked = acked
        for block in self._blocks:
            block.close()
        self._blocks.clear()
        self.sent = self.acked
        self.next_seq = self.acked + 1

    def _wants_disk(self) -> bool:
        limit = _MEMORY_BYTES // 2 if self._spilling else _MEMORY_BYTES
        held = sum(block.held_bytes for block in self._blocks if isinstance(block, MemoryBlock))
        self._spilling = held >= limit or self._store.memory_full
        return self._spilling

    def _append_to_disk(self, data: bytes, lines: int) -> None:
        last = self._blocks[-1] if self._blocks else None
        try:
            if not isinstance(last, Segment) or last.full:
                last = self._store.open_segment(self.next_seq)
                last.append(data, lines=lines)
                self._blocks.append(last)
            else:
                last.append(data, lines=lines)
        except OSError as error:
            if isinstance(last, Segment) and last not in self._blocks:
                last.close()
            self._store.disk_failed(error)
            self._append_to_memory(data, lines)

    def _append_to_memory(self, data: bytes, lines: int) -> None:
        last = self._blocks[-1] if self._blocks else None
        if not isinstance(last, MemoryBlock):
            last = MemoryBlock(store=self._store, first_seq=self.next_seq)
            self._blocks.append(last)
        last.append(data, lines=lines)

    def _drop_acknowledged(self) -> None:
        while self._blocks:
            block = self._blocks[0]
            block.drop_before(self.acked + 1)
            if block.first_seq < block.next_seq:
                return
            block.close()
            self._blocks.popleft()
