"""The spans of runs: read from the history after a run has ended, so that a restart in between loses none."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from nomaflow_kernel.history.lookups import ApplyResult
from nomaflow_kernel.history.records import RunRecord
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.history.transitions import Transition
from nomaflow_kernel.store.errors import StoreError
from nomaflow_kernel.store.sql_store import Store
from nomaflow_telemetry.trace_context import TraceContext
from nomaflow_telemetry.tracing import Tracing

_LOG = logging.getLogger(__name__)
_WAITING = 10_000
_TOGETHER = 100
_LEAVE_SECONDS = 2.0


class RunTracer:
    """Exports the span of each finished run."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._ended: deque[str] = deque(maxlen=_WAITING)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._leaving = False
        self._dropped = 0

    def begin(self, store: Store) -> None:
        """Start: a kernel with this store begins to lead."""
        self._ended.clear()
        self._leaving = False
        self._task = asyncio.create_task(self._run(store), name="traces")

    async def end(self) -> None:
        """Export the remaining spans, within two seconds. Ending twice is allowed."""
        task, self._task = self._task, None
        if task is None:
            return
        self._leaving = True
        self._wake.set()
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await task
        except TimeoutError:
            _LOG.warning("the store was not read in time; the runs that ended last have no spans")

    def applied(self, _transitions: Sequence[Transition], result: ApplyResult, seconds: float) -> None:
        """Queue the runs that have ended."""
        for event in result.events:
            if event.kind == "run.finished":
                if len(self._ended) == _WAITING:
                    self._tell_of_dropped()
                self._ended.append(event.run_id)
                self._wake.set()

    def traceparent(self, run: RunRecord) -> str:
        """Return the trace context header for a run."""
        return self._place(run)[0].header

    def _tell_of_dropped(self) -> None:
        """Count the oldest, which goes if the store cannot be read as fast as runs end: traces are not history."""
        self._dropped += 1
        if self._dropped.bit_count() == 1:  # the first, the second, the fourth ...
            _LOG.warning("runs end faster than their spans can be exported; %d have none", self._dropped)

    def _place(self, run: RunRecord) -> tuple[TraceContext, str]:
        return self._tracing.place(run.request.traceparent, run_id=run.run_id, key=run.run_id)

    async def _run(self, store: Store) -> None:
        while self._ended or not self._leaving:
            await self._wake.wait()
            self._wake.clear()
            while self._ended:
                some = [self._ended.popleft() for _ in range(min(_TOGETHER, len(self._ended)))]
                try:
                    found = await store.run_details(some)
                except StoreError as error:
                    _LOG.warning("the spans of %d runs are not exported: %s", len(some), error.message)
                    continue
                for detail in found:
                    self._export(detail.run)

    def _export(self, run: RunRecord) -> None:
        context, parent_id = self._place(run)
        why = run.error or (run.reason.message if run.reason else "") or "the run failed"
        self._tracing.emit(
            f"run {run.job_id}",
            context,
            parent_id=parent_id,
            start_us=run.queued_at_us,
            end_us=run.finished_at_us or run.queued_at_us,
            kind="CONSUMER",
            attributes={
                "run_id": run.run_id,
                "job_id": run.job_id,
                "host": run.host,
                "trigger": str(run.trigger.kind),
                "state": str(run.state),
                "reason": "" if run.reason is None else run.reason.code,
            },
            error=why if run.state is RunState.FAILED else "",
        )
