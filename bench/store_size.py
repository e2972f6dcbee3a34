"""Measures how large a history of a million runs is, and what backing it up and pruning it take.

    python -m bench.store_size [--runs 1000000] [--logged 100000] [--lines 20]

The runs are written by the store's own operations, 500 in a durable batch, as one-step jobs write them; then those
of ``--logged`` with so many log lines each. Prints one JSON object and keeps it in bench/results/store_size.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.figures import machine
from nomaflow_api.v1.log_lines import encode_line, pack_lines
from nomaflow_kernel.history.ids import RunIds
from nomaflow_kernel.history.records import (
    AttemptRecord,
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
    FinishAttempt,
    FinishRun,
    OpenAttempt,
    QueueRun,
    RecordReport,
    StartAttempt,
    StartRun,
    Transition,
)
from nomaflow_kernel.store.sql_store import Store, open_store
from nomaflow_kernel.upkeep.backup import back_up

RESULTS = Path(__file__).parent / "results" / "store_size.json"
_BATCH = 500
_JOBS = 50
_PRUNED = 50_000
_DEFINITION = json.dumps({"id": "nightly", "steps": [{"name": "purge", "callable": "myapp.cleanup:purge"}]})


def _run(run_id: str, number: int, at_us: int, *, lines: int) -> Iterator[Transition]:
    """Yield what a one-step job with a result writes from its trigger to its end."""
    job_id = f"job-{number % _JOBS:02d}"
    record = RunRecord(
        run_id=run_id,
        job_id=job_id,
        host="team",
        state=RunState.QUEUED,
        trigger=RunTrigger(kind=TriggerKind.API, by="ann", at_us=at_us),
        definition_digest=f"sha256:{number % _JOBS:064d}",
        request=RunRequest(params={"apps_id": number % 1000}),
        queued_at_us=at_us,
        request_id=f"{number:032x}",
        request_hash=f"{number:032x}",
    )
    yield QueueRun(run=record, definition_json=_DEFINITION)
    yield StartRun(run_id=run_id, job_id=job_id, at_us=at_us + 1)
    attempt = AttemptRecord(
        run_id=run_id,
        step_index=0,
        step="purge",
        attempt=1,
        state=AttemptState.DISPATCHED,
        host="team",
        incarnation="5d1f7a3c9b2e4f60",
        epoch=1,
        dispatched_at_us=at_us + 1,
    )
    yield OpenAttempt(job_id=job_id, attempt=attempt)
    of: dict[str, Any] = {"run_id": run_id, "job_id": job_id, "step_index": 0, "step": "purge", "attempt": 1}
    yield StartAttempt(**of, at_us=at_us + 2, worker_pid=4711, generation=1)
    if lines:
        yield AppendLog(chunk=_log(run_id, number, lines, at_us))
    yield RecordReport(**of, report_seq=2, progress_json="")
    extras = json.dumps({"tenant": number % 1000}).encode()
    end = AttemptEnd(state=AttemptState.SUCCEEDED, rows_affected=number, extras_json=extras)
    yield FinishAttempt(**of, at_us=at_us + 3, end=end)
    yield FinishRun(run_id=run_id, job_id=job_id, at_us=at_us + 4, state=RunState.SUCCEEDED)


def _log(run_id: str, number: int, lines: int, at_us: int) -> LogChunkRecord:
    texts = (f"tenant {number % 1000}: deleted {each * 37 % 901} sessions older than 30 days" for each in range(lines))
    packed = pack_lines([encode_line(20, at_us + each, "myapp.cleanup", text) for each, text in enumerate(texts)])
    return LogChunkRecord(
        run_id=run_id,
        step="purge",
        attempt=1,
        first_seq=1,
        line_count=packed.line_count,
        first_at_us=packed.first_at_us,
        last_at_us=packed.last_at_us,
        levels=packed.levels,
        codec=packed.codec,
        body=packed.body,
    )


async def _fill(store: Store, ids: RunIds, first: int, count: int, *, lines: int) -> float:
    """Write runs and return how many a second."""
    began = time.perf_counter()
    for start in range(first, first + count, _BATCH):
        at_us = time.time_ns() // 1000
        numbers: Sequence[int] = range(start, min(start + _BATCH, first + count))
        batch = [each for number in numbers for each in _run(ids.new(), number, at_us, lines=lines)]
        result = await store.apply(batch, at_us=at_us)
        assert not result.lost, result.lost
    return count / (time.perf_counter() - began)


async def write_history(store: Store, *, runs: int, logged: int, lines: int) -> None:
    """Write finished one-step runs, and some more that have logged."""
    ids = RunIds(now_ms=lambda: time.time_ns() // 1_000_000)
    await _fill(store, ids, 0, runs, lines=0)
    await _fill(store, ids, runs, logged, lines=lines)


async def _prune(store: Store, ids: RunIds, count: int) -> tuple[float, list[float]]:
    """Remove the oldest runs in the pages of the retention, while single triggers are written one after the other.

    Return the runs removed a second, and the milliseconds of each trigger.
    """
    removing = asyncio.create_task(_remove(store, count))
    waits: list[float] = []
    while not removing.done():
        at_us = time.time_ns() // 1000
        trigger = next(_run(ids.new(), 10**9 + len(waits), at_us, lines=0))
        began = time.perf_counter()
        await store.apply([trigger], at_us=at_us)
        waits.append((time.perf_counter() - began) * 1000)
    return await removing, sorted(waits)


async def _remove(store: Store, count: int) -> float:
    began, gone, before_us = time.perf_counter(), 0, time.time_ns() // 1000
    while gone < count:
        gone += await store.prune(job_id="", keep_runs=None, before_us=before_us, limit=100)
    return gone / (time.perf_counter() - began)


async def measure(folder: Path, *, runs: int, logged: int, lines: int) -> dict[str, float]:
    """Return sizes in bytes, rates in runs a second, times in seconds."""
    file = folder / "history.db"
    ids = RunIds(now_ms=lambda: time.time_ns() // 1_000_000)
    store = open_store(f"sqlite:///{file}")
    await store.open()
    rate = await _fill(store, ids, 0, runs, lines=0)
    await store.close()  # what is in the log moves into the file
    plain = file.stat().st_size
    await store.open()
    await _fill(store, ids, runs, logged, lines=lines)
    await store.close()
    with_logs = file.stat().st_size - plain
    copied = back_up(file, folder / "backup.db")
    await store.open()
    pruned, waits = await _prune(store, ids, min(_PRUNED, runs))
    await store.close()
    return {
        "runs": runs,
        "bytes": plain,
        "bytes_a_run": plain / runs,
        "lines_a_logged_run": lines,
        "bytes_a_logged_run": with_logs / logged,
        "bytes_a_line": (with_logs / logged - plain / runs) / lines,
        "runs_written_a_second": rate,
        "backup_seconds": copied["seconds"],
        "runs_pruned_a_second": pruned,
        "trigger_while_pruning_p50_ms": waits[len(waits) // 2],
        "trigger_while_pruning_p99_ms": waits[len(waits) * 99 // 100],
    }


def main() -> None:
    """Measure, keep the figures and print them."""
    parser = argparse.ArgumentParser(prog="python -m bench.store_size")
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--logged", type=int, default=100_000)
    parser.add_argument("--lines", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), runs=given.runs, logged=given.logged, lines=given.lines))
    result = json.dumps(
        {"machine": machine(), "figures": {key: round(value, 2) for key, value in found.items()}}, indent=1
    )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(result + "\n")
    print(result)


if __name__ == "__main__":
    main()
