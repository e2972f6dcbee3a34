"""Short ways to write transitions."""

from __future__ import annotations

from typing import Any

from nomaflow_kernel.history.ids import RunIds
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import (
    AttemptRecord,
    Fold,
    LogChunkRecord,
    RunRecord,
    RunRequest,
    RunTrigger,
    TriggerKind,
)
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.history.transitions import (
    AppendLog,
    AttemptEnd,
    DispatchAttempt,
    FinishAttempt,
    FinishRun,
    FoldRun,
    OpenAttempt,
    QueueRun,
    RecordReport,
    StartAttempt,
    StartRun,
)

T0 = 1_700_000_000_000_000


class Ids:
    """Run ids one millisecond apart, from T0 on."""

    def __init__(self, *, start_ms: int = T0 // 1000) -> None:
        self._ms = start_ms
        self._ids = RunIds(now_ms=self._tick)

    def _tick(self) -> int:
        self._ms += 1
        return self._ms

    def new(self) -> str:
        return self._ids.new()


_ROWS = Ids()


def record(run_id: str, **changes: Any) -> RunRecord:
    """Return a QUEUED run."""
    fields: dict[str, Any] = {
        "job_id": "nightly",
        "host": "demo",
        "state": RunState.QUEUED,
        "trigger": RunTrigger(kind=TriggerKind.API, by="ann", at_us=T0),
        "definition_digest": "d1",
        "request": RunRequest(),
        "queued_at_us": T0,
    }
    return RunRecord(run_id=run_id, **{**fields, **changes})


def queue(run_id: str, *, definition: str = '{"id":"nightly"}', **changes: Any) -> QueueRun:
    return QueueRun(run=record(run_id, **changes), definition_json=definition)


def folded(run_id: str, last_us: int, *, count: int = 1) -> FoldRun:
    why = Reason("overlap", "another run is active")
    fold = Fold(first_us=last_us, last_us=last_us, count=count)
    row = queue(_ROWS.new(), state=RunState.SKIPPED, reason=why, fold=fold, finished_at_us=last_us)
    return FoldRun(run_id=run_id, last_us=last_us, add_count=count, otherwise=row)


def start(run_id: str, *, job_id: str = "nightly") -> StartRun:
    return StartRun(run_id=run_id, job_id=job_id, at_us=T0 + 1)


def finish(run_id: str, state: RunState = RunState.SUCCEEDED, **changes: Any) -> FinishRun:
    return FinishRun(run_id=run_id, **{"job_id": "nightly", "at_us": T0 + 9, **changes}, state=state)


def opened(run_id: str, state: AttemptState = AttemptState.DISPATCHED, **changes: Any) -> OpenAttempt:
    fields: dict[str, Any] = {"step_index": 0, "step": "purge", "attempt": 1, "host": "demo", "incarnation": "i1"}
    attempt = AttemptRecord(run_id=run_id, state=state, **{**fields, **changes})
    return OpenAttempt(job_id="nightly", attempt=attempt)


def key(run_id: str, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"job_id": "nightly", "step_index": 0, "step": "purge", "attempt": 1}
    return {"run_id": run_id, **fields, **changes}


def dispatched(run_id: str) -> DispatchAttempt:
    return DispatchAttempt(**key(run_id), host="demo", incarnation="i2", epoch=7, at_us=T0 + 5)


def started(run_id: str, **changes: Any) -> StartAttempt:
    return StartAttempt(**key(run_id), at_us=T0 + 5, **{"worker_pid": 4242, "generation": 3, **changes})


def reported(run_id: str, report_seq: int, progress: str = "") -> RecordReport:
    return RecordReport(**key(run_id), report_seq=report_seq, progress_json=progress)


def finished(run_id: str, state: AttemptState = AttemptState.SUCCEEDED, **changes: Any) -> FinishAttempt:
    return FinishAttempt(**key(run_id), at_us=T0 + 5, end=AttemptEnd(state=state, **changes))


def logged(run_id: str, first_seq: int, lines: int, **changes: Any) -> AppendLog:
    fields: dict[str, Any] = {
        "step": "purge",
        "attempt": 1,
        "first_at_us": T0,
        "last_at_us": T0 + lines,
        "levels": 0b100,
        "codec": 1,
        "body": b"line\n" * lines,
    }
    chunk = LogChunkRecord(run_id=run_id, first_seq=first_seq, line_count=lines, **{**fields, **changes})
    return AppendLog(chunk=chunk)
