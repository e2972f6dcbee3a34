"""The outbox: keeps events of attempts, gives them out in batches, and forgets those that the kernel acknowledged.

Within an attempt, events keep the order in which the supervisor reported them; ``finished`` is always the last. A
batch takes from the attempts in turn, so that a chatty one does not hold up the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from nomaflow_host.attempt.messages import AttemptOrder, Finished, FinishedState, LogChunk, Progress, Started, host_line
from nomaflow_host.outbox.answers import AnswerBook
from nomaflow_host.outbox.batch import MAX_BATCH_BYTES, MAX_EVENT_BYTES, AckKind, Batch, BatchGroup, HeldState
from nomaflow_host.outbox.lane import Holding, Lane
from nomaflow_host.outbox.spill import SpillStore
from nomaflow_host.outbox.turns import Filling, Turns
from nomaflow_telemetry.process_log import attempt_fields

__all__ = ["Outbox"]

_log = logging.getLogger(__name__)

Event = Started | LogChunk | Progress | Finished
_FORGOTTEN_SEQ = 1 << 40
_REFUSED = "REFUSED"


class Outbox:
    """Keep the events of attempts until they are acknowledged. An :class:`~nomaflow_host.attempt.messages.AttemptSink`.

    All calls come from the event loop's thread. Several batches may be under way at a time, but never two with events
    of one attempt.

    :param encode: turns an event into its bytes on the wire, once
    """

    def __init__(
        self,
        *,
        store: SpillStore,
        encode: Callable[[Event], bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._encode = encode
        self._on_room: Callable[[], None] = lambda: None
        self._lanes: dict[str, Lane] = {}
        self._states: dict[str, str] = {}
        self._says: dict[str, BatchGroup] = {}
        self._answers = AnswerBook()
        self._turns = Turns(encode=encode, clock=clock)
        self._held_back = False

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call *callback* whenever workers that were held back may be read again."""
        self._on_room = callback

    # Used by the session.

    def accept(self, order: AttemptOrder) -> bool:
        """Record an accepted order.

        :returns: False if its key was accepted before: its current state is reported again, and nothing may start
        """
        key = order.attempt_key
        if key in self._lanes or self._answers.get(key) is not None:
            self.say(key)
            return False
        holding = Holding(
            attempt_key=key, epoch=order.epoch, retry_on_lost=order.retry_on_lost, grace_ms=order.grace_ms
        )
        self._lanes[key] = Lane(holding=holding, store=self._store, tell_loss=self._tell_loss)
        self._states[key] = "DISPATCHED"
        return True

    def say(self, attempt_key: str) -> None:
        """Report an attempt's current state once more, or that its key is unknown."""
        lane = self._lanes.get(attempt_key)
        if lane is None:
            self._says[attempt_key] = self._answer(attempt_key)
        elif not lane.under_way:  # else the report under way contains it
            self._turns.schedule(lane)
            if not lane.unsent:
                self._says[attempt_key] = lane.last_words()
        self._turns.nudge()

    def next_batch(self, limit: int = MAX_BATCH_BYTES) -> Batch | None:
        """Return the next events to report, or None if there are none now.

        At most *limit* encoded bytes, 64 KiB of each attempt a round; more only for a single larger event.
        """
        filling = Filling(limit=limit)
        says, self._says = list(self._says.values()), {}
        for group in says:
            filling.add_group(group)
        self._turns.fill(filling)
        groups = (*says, *filling.groups())
        return Batch(groups=groups, size=filling.size) if groups else None

    async def wait(self) -> None:
        """Wait until `next_batch` returns a batch."""
        await self._turns.wait(lambda: bool(self._says))

    async def wait_until_full(self) -> None:
        """Wait until there are enough attempts to report on for a full batch."""
        await self._turns.wait_until_full()

    def acknowledge(self, attempt_key: str, seq: int, kind: AckKind, detail: str = "") -> Holding | None:
        """Apply the kernel's answer to one attempt of the batch.

        :returns: the attempt if the kernel wants no more of it and its code may still run
        """
        lane = self._lanes.get(attempt_key)
        if lane is None:
            if kind is AckKind.GAP:
                self._tell_again(attempt_key, seq)
            return None
        if kind in (AckKind.FENCED, AckKind.CONFLICT):
            _log.warning(
                "the kernel accepts no more events (%s): %s", kind.value, detail, extra=attempt_fields(attempt_key)
            )
            return self.forget(attempt_key)
        if kind is AckKind.INVALID:
            return self._reject(lane, lane.acked, f"the kernel called a report invalid: {detail}", keep_outcome=False)
        before = lane.acked
        if not lane.acknowledge(seq):
            problem = f"the kernel acknowledged event {seq}, where {before} to {lane.last_seq} were expected"
            return self._reject(lane, seq, problem, keep_outcome=True)
        self._settle(lane, moved=lane.acked > before)
        return None

    def unanswered(self, attempt_key: str) -> None:
        """Send an attempt's events again a little later, because the kernel's answer left it out."""
        lane = self._lanes.get(attempt_key)
        if lane is not None:
            lane.acknowledge(lane.acked)
            self._settle(lane, moved=False)

    def rewind(self, attempt_key: str, acknowledged_seq: int) -> None:
        """Send all unacknowledged events again, after a new session or a failed call."""
        lane = self._lanes.get(attempt_key)
        if lane is not None:
            lane.acknowledge(max(acknowledged_seq, lane.acked))
            self._settle(lane, moved=True)

    def rewind_all(self) -> None:
        """Send the unacknowledged events of all attempts again."""
        for key in list(self._lanes):
            self.rewind(key, 0)

    def forget(self, attempt_key: str) -> Holding | None:
        """Report nothing more of an attempt, but remember its key.

        :returns: the attempt if its code may still run
        """
        lane = self._lanes.get(attempt_key)
        if lane is None:
            return None
        lane.restart(lane.acked)
        lane.progress = None
        lane.muted = True
        self._turns.remove(attempt_key)
        self._says.pop(attempt_key, None)
        if lane.finished is not None:
            self._retire(lane)
            return None
        return lane.holding

    def refuse(self, attempt_key: str, reason: str, *, at_us: int) -> None:
        """Report that an order accepted just before cannot be started, so that the kernel queues it again.

        The key is forgotten: the same attempt may come again when there is room.
        """
        event = Finished(
            at_us=at_us, state=FinishedState.FAILED, reason_code="host_refused", reason=reason, not_started=True
        )
        self.finished(attempt_key, event)
        self._states[attempt_key] = _REFUSED

    def inventory(self) -> list[HeldState]:
        """Return every attempt that may still have something to report."""
        return [
            HeldState(
                attempt_key=key,
                state="FAILED" if self._states[key] == _REFUSED else self._states[key],
                last_seq=lane.last_seq,
                epoch=lane.holding.epoch,
            )
            for key, lane in self._lanes.items()
            if not lane.muted
        ]

    def unfinished(self) -> Iterable[Holding]:
        """Return the attempts whose code may run."""
        return [lane.holding for lane in self._lanes.values() if lane.finished is None]

    @property
    def empty(self) -> bool:
        """True if every event is acknowledged."""
        return not self._says and all(
            lane.acked == lane.last_seq and lane.progress is None for lane in self._lanes.values()
        )

    @property
    def spilled_bytes(self) -> int:
        """Bytes of unacknowledged events in files."""
        return self._store.spilled_bytes

    @property
    def memory_bytes(self) -> int:
        """Bytes of unacknowledged events in memory."""
        return self._store.memory_bytes

    @property
    def attempts(self) -> int:
        """Number of attempts that have, or may have, something to report."""
        return len(self._lanes)

    @property
    def saturated(self) -> bool:
        """True if no new work may start, because the files are at their cap or the disk is full."""
        return not self._store.has_room(exclusive=False)

    def close(self) -> None:
        """Delete the files, with every unacknowledged event in them."""
        for key, lane in self._lanes.items():
            lane.restart(lane.acked)
            self._turns.remove(key)
        self._lanes.clear()
        self._states.clear()

    # Used by the supervisor: AttemptSink.

    def started(self, attempt_key: str, event: Started) -> None:
        """Record that the callable is about to be called."""
        lane = self._open_lane(attempt_key)
        if lane is not None:
            self._states[attempt_key] = "RUNNING"
            data = self._encode(event)
            lane.started = (lane.next_seq, data)
            lane.append(data)
            self._turns.linger(lane)

    def log(self, attempt_key: str, event: LogChunk) -> None:
        """Add lines to the attempt's log.

        :raises ValueError: if the chunk is larger than the kernel accepts
        """
        lane = self._open_lane(attempt_key)
        if lane is not None:
            data = self._encode(event)
            if len(data) > MAX_EVENT_BYTES:
                raise ValueError(f"a log chunk of {len(data)} bytes, expected at most {MAX_EVENT_BYTES}")
            self._append(lane, data, lines=event.line_count)

    def progress(self, attempt_key: str, event: Progress) -> None:
        """Keep the newest progress; at most four a second are reported."""
        lane = self._open_lane(attempt_key)
        if lane is not None:
            lane.progress = event
            self._turns.schedule(lane)

    def finished(self, attempt_key: str, event: Finished) -> None:
        """Record the outcome."""
        lane = self._lanes.get(attempt_key)
        if lane is None or lane.finished is not None:
            return
        self._states[attempt_key] = event.state.value
        if lane.muted:
            lane.finished = self._encode(_without_result(event))
            self._retire(lane)
            return
        if lane.rejected:
            event = replace(event, warnings=(*event.warnings, lane.rejected))
        self._turns.take_progress(lane)
        lane.finished = self._encode_outcome(event)
        self._append(lane, lane.finished)

    def may_read(self, *, exclusive: bool) -> bool:
        """Return False while files are at their cap: lines wait in the rings and pipes, exclusive workers first."""
        room = self._store.has_room(exclusive=exclusive)
        self._held_back = self._held_back or not room
        return room

    # Internals.

    def _open_lane(self, attempt_key: str) -> Lane | None:
        lane = self._lanes.get(attempt_key)
        return None if lane is None or lane.muted or lane.finished is not None else lane

    def _append(self, lane: Lane, data: bytes, *, lines: int = 0) -> None:
        lane.append(data, lines=lines)
        self._turns.schedule(lane)

    def _settle(self, lane: Lane, *, moved: bool) -> None:
        """Decide the next step for an attempt after an acknowledgement."""
        if lane.done:
            self._retire(lane)
        elif moved or not lane.unsent:
            lane.stalls = 0
            lane.parked_until = float("-inf")
            self._turns.schedule(lane)
        else:
            self._turns.stalled(lane)
        if self._held_back and self._store.has_room(exclusive=True):
            self._held_back = False
            self._on_room()

    def _retire(self, lane: Lane) -> None:
        key = lane.holding.attempt_key
        del self._lanes[key]
        self._turns.remove(key)
        if self._states.pop(key) != _REFUSED:
            self._answers.remember(key, seq=lane.last_seq, event=lane.finished)
        lane.restart(lane.acked)

    def _reject(self, lane: Lane, acked: int, problem: str, *, keep_outcome: bool) -> Holding | None:
        """Give up the held events that the kernel cannot take, but deliver the attempt's outcome."""
        key = lane.holding.attempt_key
        _log.error("events of an attempt are lost: %s", problem, extra=attempt_fields(key))
        if lane.rejected:
            return self.forget(key)
        lane.rejected = f"events of this attempt are lost, since {problem}"
        lane.restart(acked)
        lane.started = None
        self._turns.remove(key)
        if lane.finished is not None:
            if not keep_outcome:
                at_us = time.time_ns() // 1000
                lane.finished = self._encode(
                    Finished(
                        at_us=at_us,
                        state=FinishedState.FAILED,
                        error=lane.rejected,
                        reason_code="return_invalid",
                        reason=lane.rejected,
                    )
                )
            self._append(lane, lane.finished)
        return None

    def _encode_outcome(self, event: Finished) -> bytes:
        data = self._encode(event)
        if len(data) <= MAX_EVENT_BYTES:
            return data
        reason = (
            f"the result has {len(data)} bytes, expected at most {MAX_EVENT_BYTES}: "
            "store the data yourself and return a row count and a key"
        )
        small = replace(_without_result(event), warnings=(), exception_types=(), error=reason, reason=reason)
        return self._encode(replace(small, state=FinishedState.FAILED, reason_code="result_too_large"))

    def _tell_loss(self, lines: int, error: OSError) -> bytes:
        """Return a chunk with one line about the loss of an event that the disk does not return."""
        what = f"{lines} lines of the log" if lines != 1 else "1 line of the log"
        what = what if lines else "a report of progress"
        text = f"lost: {what}, since the host's spill file cannot be read: {error}"
        _log.error("%s", text)
        return self._encode(LogChunk.of_lines([host_line(logging.ERROR, text)]))

    def _tell_again(self, attempt_key: str, acked: int) -> None:
        """Repeat the outcome for a kernel that acknowledged it but lacks earlier events, since it was restored.

        Those events are gone; the outcome takes the number that the kernel expects.
        """
        answer = self._answers.get(attempt_key)
        if answer is None or (answer.event is not None and answer.seq == acked + 1):
            return
        event = answer.event or self._encode(_forgotten())
        self._answers.remember(attempt_key, seq=acked + 1, event=event)
        self._says[attempt_key] = self._answer(attempt_key)
        self._turns.nudge()

    def _answer(self, attempt_key: str) -> BatchGroup:
        answer = self._answers.get(attempt_key)
        if answer is None:
            return BatchGroup(attempt_key=attempt_key, first_seq=1, unknown=True)
        if answer.event is None:
            # If even the number is forgotten, use one that a kernel which still waits for the outcome calls a gap.
            return BatchGroup(attempt_key=attempt_key, first_seq=(answer.seq or _FORGOTTEN_SEQ) + 1)
        return BatchGroup(attempt_key=attempt_key, first_seq=answer.seq, events=(answer.event,))


def _forgotten() -> Finished:
    text = "the kernel's history is an older one; the attempt has ended since, and the host no longer holds how"
    return Finished(
        at_us=time.time_ns() // 1000, state=FinishedState.FAILED, error=text, reason_code="outcome_lost", reason=text
    )


def _without_result(event: Finished) -> Finished:
    return replace(event, extras_json=b"", has_result=False)
