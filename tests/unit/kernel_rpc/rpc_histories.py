"""Short ways to write what has happened in a run."""

from __future__ import annotations

from rpc_world import RUN_ID, World, queue_run

from nomaflow_api.v1.letter_words import LogCodec
from nomaflow_api.v1.log_lines import encode_line, pack_lines
from nomaflow_kernel.history.records import AttemptRecord, LogChunkRecord
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.history.transitions import AppendLog, FinishRun, OpenAttempt, StartRun


def finish(run_id: str = RUN_ID) -> FinishRun:
    """Return the end of a run."""
    return FinishRun(run_id=run_id, job_id="job", state=RunState.SUCCEEDED, at_us=2)


def chunk(first: int, *texts: str, level: int = 20, broken: bool = False) -> AppendLog:
    """Return a chunk of lines of the run's only step."""
    packed = pack_lines([encode_line(level, 1, "l", text) for text in texts])
    record = LogChunkRecord(
        run_id=RUN_ID, step="a", attempt=1, first_seq=first, line_count=len(texts), first_at_us=1, last_at_us=1,
        levels=packed.levels, codec=LogCodec.JSONL_ZLIB if broken else packed.codec,
        body=b"garbage" if broken else packed.body,
    )  # fmt: skip
    return AppendLog(chunk=record)


async def begin(world: World) -> None:
    """Commit a running run with an attempt that may log."""
    await world.apply(
        queue_run(),
        StartRun(run_id=RUN_ID, job_id="job", at_us=1),
        OpenAttempt(
            job_id="job",
            attempt=AttemptRecord(run_id=RUN_ID, step_index=0, step="a", attempt=1, state=AttemptState.PENDING),
        ),
    )
