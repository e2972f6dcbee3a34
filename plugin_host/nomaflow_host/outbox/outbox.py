"""The outbox: keeps events of attempts, gives them out in batches, and forgets those that the kernel acknowledged.

Within an attempt, events keep the order in which the supervisor reported them; ``finished`` is always the last. A
batch takes from the attempts in turn, so that a chatty one does not hold up the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from nomaflow_api.v1.letter_words import AckStatus, FinishedState
from nomaflow_api.v1.letters import (
    AttemptAck,
    AttemptReport,
    DispatchOrder,
    Finished,
    InventoryLine,
    LogChunk,
    Progress,
    Started,
    Stopping,
)
from nomaflow_api.v1.log_lines import pack_lines
from nomaflow_api.v1.sealing import fitting, open_event, seal
from nomaflow_host.attempt.messages import host_line
from nomaflow_host.outbox.ended_attempts import Answer, AnswerBook
from nomaflow_host.outbox.event_storage import SpillStore
from nomaflow_host.outbox.lane import Lane
from nomaflow_host.outbox.turns import MAX_BATCH_BYTES, Filling, Turns
from nomaflow_telemetry.process_log import attempt_fields

_log = logging.getLogger(__name__)

MAX_EVENT_BYTES = (2 << 20) - (16 << 10)
_FORGOTTEN_SEQ = 1 << 40
_FORGOTTEN = "the kernel's history is from before the attempt ended, and the host no longer knows how it ended"


class Outbox:
    """Keep the events of attempts until they are acknowledged. An :class:`~nomaflow_host.attempt.messages.AttemptSink`.

    All calls come from the event loop's thread. Several batches may be under way at a time, but never two with events
    of one attempt.
    """

    def __init__(self, *, store: SpillStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._lanes: dict[str, Lane] = {}
        self._says: dict[str, AttemptReport] = {}
        self._answers = AnswerBook()
        self._turns = Turns(clock=clock)
        self.wait_until_full = self._turns.wait_until_full
        """Waits until there are enough attempts to report on for a full batch."""

    # Used by the session.

    def accept(self, order: DispatchOrder) -> bool:
        """Record an accepted order.

        :returns: False if its key was accepted before, as far as host or kernel know: its current state is reported
            again, and nothing may start
        """
        key = order.attempt_key
        lane, answer = self._lanes.get(key), self._answers.get(key)
        if lane is None and answer is None:
            if not order.reported:
                self._lanes[key] = Lane(order=replace(order, order=b""), store=self._store, tell_loss=self._tell_loss)
                return True
            answer = self._answers.remember(key, seq=0, event=None)
        if answer is not None:
            self._says[key] = _last_report(key, answer)
        elif lane is not None and not lane.under_way:  # else the report under way contains it
            self._turns.schedule(lane)
            if not lane.unsent:
                self._says[key] = lane.last_words()
        self._turns.nudge()
        return False

    def next_batch(self, limit: int = MAX_BATCH_BYTES) -> list[AttemptReport]:
        """Return the next events to report, each sealed; empty if there are none now.

        At most *limit* encoded bytes, 64 KiB of each attempt a round; more only for a single larger event.
        """
        filling = Filling(limit=limit)
        while self._says and not filling.full:
            filling.take(self._says.pop(next(iter(self._says))))
        self._turns.fill(filling)
        return filling.reports()

    async def wait(self) -> None:
        """Wait until `next_batch` returns a batch."""
        await self._turns.wait(lambda: bool(self._says))

    def acknowledge(self, ack: AttemptAck) -> DispatchOrder | None:
        """Apply the kernel's answer to one attempt of the batch.

        :returns: the attempt if the kernel wants no more of it and its code may still run
        """
        key, seq = ack.attempt_key, ack.acknowledged_seq
        lane = self._lanes.get(key)
        if lane is None:
            if ack.status is AckStatus.GAP:
                self._tell_again(key, seq)
            return None
        if ack.status in (AckStatus.FENCED, AckStatus.CONFLICT):
            _log.warning(
                "the kernel accepts no more events (%s): %s", ack.status, ack.detail, extra=attempt_fields(key)
            )
            return self.forget(key)
        if ack.status is AckStatus.INVALID:
            problem = f"the kernel called a report invalid: {ack.detail}"
            return self._reject(lane, lane.acked, problem, keep_outcome=False)
        before = lane.acked
        if not lane.acknowledge(seq):
            problem = f"the kernel acknowledged event {seq}, where {before} to {lane.last_seq} were expected"
            return self._reject(lane, seq, problem, keep_outcome=True)
        self._settle(lane, moved=lane.acked > before)
        return None

    def unanswered(self, attempt_key: str) -> bool:
        """Send an attempt's events again a little later, because the kernel's answer left it out.

        :returns: False if nothing of it is held
        """
        lane = self._lanes.get(attempt_key)
        if lane is None:
            return False
        lane.acknowledge(lane.acked)
        self._settle(lane, moved=False)
        return True

    def undelivered(self, report: AttemptReport) -> None:
        """Send a report again, since the call with it failed."""
        key = report.attempt_key
        lane = self._lanes.get(key)
        if lane is not None and (lane.under_way or lane.muted):
            self.rewind(key, 0)
        else:  # nothing of it waited for an acknowledgement: its state was told once more
            self._says.setdefault(key, report)
            self._turns.nudge()

    def rewind(self, attempt_key: str, acknowledged_seq: int) -> None:
        """Send all unacknowledged events again, in a new session."""
        lane = self._lanes.get(attempt_key)
        if lane is not None:
            lane.acknowledge(max(acknowledged_seq, lane.acked))
            self._settle(lane, moved=True)

    def rewind_all(self) -> None:
        """Send the unacknowledged events of all attempts again."""
        for key in list(self._lanes):
            self.rewind(key, 0)

    def forget(self, attempt_key: str) -> DispatchOrder | None:
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
        return lane.order

    def refuse(self, attempt_key: str, reason: str) -> None:
        """Report that an order accepted just before cannot be started, so that the kernel queues it again.

        The key is forgotten: the same attempt may come again when there is room.
        """
        self._lanes[attempt_key].refused = True
        self.finished(attempt_key, _failed("host_refused", reason, not_started=True))

    def inventory(self) -> list[InventoryLine]:
        """Return every attempt that may still have something to report."""
        return [
            InventoryLine(attempt_key=key, ended=lane.finished is not None)
            for key, lane in self._lanes.items()
            if not lane.muted
        ]

    def unfinished(self) -> Iterable[DispatchOrder]:
        """Return the attempts whose code may run."""
        return [lane.order for lane in self._lanes.values() if lane.finished is None]

    @property
    def empty(self) -> bool:
        """True if every event is acknowledged."""
        return not self._says and all(lane.acked == lane.last_seq for lane in self._lanes.values())

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
        for lane in self._lanes.values():
            lane.restart(lane.acked)
        self._lanes.clear()

    # Used by the supervisor: AttemptSink.

    def started(self, attempt_key: str, event: Started) -> None:
        """Record that the callable is about to be called."""
        lane = self._open_lane(attempt_key)
        if lane is not None:
            data = seal(event)
            lane.started = (lane.next_seq, data)
            lane.append(data)
            self._turns.linger(lane)

    def log(self, attempt_key: str, event: LogChunk) -> None:
        """Add lines to the attempt's log."""
        lane = self._open_lane(attempt_key)
        if lane is not None:
            self._append(lane, seal(event), lines=event.line_count)

    def progress(self, attempt_key: str, event: Progress) -> None:
        """Keep the newest progress; at most four a second are reported."""
        lane = self._open_lane(attempt_key)
        if lane is not None:
            lane.progress = event
            self._turns.schedule(lane)

    def stopping(self, attempt_key: str, event: Stopping) -> None:
        """Record a rung of the ladder by which the attempt is being stopped."""
        lane = self._open_lane(attempt_key)
        if lane is not None:
            self._turns.take_progress(lane)
            self._append(lane, seal(event))

    def finished(self, attempt_key: str, event: Finished) -> None:
        """Record the outcome."""
        lane = self._lanes.get(attempt_key)
        if lane is None or lane.finished is not None:
            return
        if lane.muted:
            lane.finished = seal(event)
            self._retire(lane)
            return
        if lane.rejected:
            event = replace(event, warnings=(*event.warnings, lane.rejected), lines_lost=True)
        self._turns.take_progress(lane)
        lane.finished = _sealed_outcome(event)
        self._append(lane, lane.finished)

    def may_read(self, *, exclusive: bool) -> bool:
        """Return False while files are at their cap: lines wait in the rings and pipes, exclusive workers first."""
        return self._store.has_room(exclusive=exclusive)

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

    def _retire(self, lane: Lane) -> None:
        key = lane.order.attempt_key
        del self._lanes[key]
        self._turns.remove(key)
        if not lane.refused:
            self._answers.remember(key, seq=lane.last_seq, event=lane.finished)
        lane.restart(lane.acked)

    def _reject(self, lane: Lane, acked: int, problem: str, *, keep_outcome: bool) -> DispatchOrder | None:
        """Give up the held events that the kernel cannot take, but deliver the attempt's outcome."""
        key = lane.order.attempt_key
        _log.error("events of an attempt are lost: %s", problem, extra=attempt_fields(key))
        if lane.rejected:
            return self.forget(key)
        lane.rejected = fitting(f"events of this attempt are lost, since {problem}")
        lane.restart(acked)
        lane.started = None
        self._turns.remove(key)
        if lane.finished is not None:
            if not keep_outcome:
                lane.finished = seal(_failed("return_invalid", lane.rejected, error=lane.rejected, lines_lost=True))
            else:
                lane.finished = _with_lines_lost(lane.finished)
            self._append(lane, lane.finished)
        return None

    def _tell_loss(self, lines: int, error: OSError) -> bytes:
        """Return a chunk with one line about the loss of an event that the disk does not return."""
        what = f"{lines} lines of the log" if lines != 1 else "1 line of the log"
        what = what if lines else "a report of progress"
        text = f"lost: {what}, since the host's spill file cannot be read: {error}"
        _log.error("%s", text)
        return seal(replace(pack_lines([host_line(logging.ERROR, text)]), lost_lines=lines))

    def _tell_again(self, attempt_key: str, acked: int) -> None:
        """Repeat the outcome for a kernel that acknowledged it but lacks earlier events, since it was restored.

        Those events are gone; the outcome takes the number that the kernel expects.
        """
        answer = self._answers.get(attempt_key)
        if answer is None or (answer.event is not None and answer.seq == acked + 1):
            return
        event = answer.event or seal(_failed("outcome_lost", _FORGOTTEN, error=_FORGOTTEN))
        event = _with_lines_lost(event)
        kept = self._answers.remember(attempt_key, seq=acked + 1, event=event)
        self._says[attempt_key] = _last_report(attempt_key, kept)
        self._turns.nudge()


def _last_report(attempt_key: str, answer: Answer) -> AttemptReport:
    """Return the report of an outcome that was acknowledged."""
    if answer.event is None:
        # If even the number is forgotten, use one that a kernel which still waits for the outcome calls a gap.
        return AttemptReport(attempt_key=attempt_key, first_seq=(answer.seq or _FORGOTTEN_SEQ) + 1)
    return AttemptReport(attempt_key=attempt_key, first_seq=answer.seq, events=(answer.event,))


def _with_lines_lost(finished: bytes) -> bytes:
    """Return a sealed outcome that says that earlier events are missing."""
    event = open_event(finished)
    return seal(replace(event, lines_lost=True)) if isinstance(event, Finished) else finished


def _failed(
    code: str, reason: str, *, error: str = "", not_started: bool = False, lines_lost: bool = False
) -> Finished:
    """Return the end of an attempt that the outbox itself has to supply."""
    return Finished(
        at_us=time.time_ns() // 1000,
        state=FinishedState.FAILED,
        reason_code=code,
        reason=fitting(reason),
        error=error,
        not_started=not_started,
        lines_lost=lines_lost,
    )


def _sealed_outcome(event: Finished) -> bytes:
    data = seal(event)
    if len(data) <= MAX_EVENT_BYTES:
        return data
    reason = (
        f"the result has {len(data)} bytes, expected at most {MAX_EVENT_BYTES}: "
        "store the data yourself and return a row count and a key"
    )
    failed = _failed("result_too_large", reason, error=reason)
    return seal(replace(failed, peak_rss_bytes=event.peak_rss_bytes, cpu_seconds=event.cpu_seconds))
