"""Runs of rows that lists read again and again are kept, and are what the row says."""

from __future__ import annotations

from msgspec.structs import replace

from nomaflow_kernel.history.records import RunRecord, RunRequest, RunTrigger, TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.rows import RUNS, run_of

RUN = RunRecord(
    run_id="run_" + "0" * 26, job_id="job", host="team", state=RunState.RUNNING,
    trigger=RunTrigger(kind=TriggerKind.API, at_us=1), definition_digest="d", request=RunRequest(), queued_at_us=1,
)  # fmt: skip


def test_a_row_that_is_read_again_is_the_same_run_and_a_changed_one_another() -> None:
    """Each column counts."""
    row = RUNS.values(RUN)
    assert run_of(row) is run_of([*row])
    assert run_of(row) == RUN
    for changed in (
        replace(RUN, log_lines=1),
        replace(RUN, state=RunState.FAILED),
        replace(RUN, rows_affected=0),
    ):
        assert run_of(RUNS.values(changed)) == changed


def test_long_rows_are_not_kept() -> None:
    """A run has up to a megabyte of params, and five hundred of them would be the kernel's memory."""
    row = RUNS.values(replace(RUN, error="x" * 3_000))
    assert run_of(row) == run_of(row)
    assert run_of(row) is not run_of(row)
