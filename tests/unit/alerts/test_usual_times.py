"""Samples of the usual rows and time of a job and preset: of the runs that the kernel knows, and of newer ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from alerts_rig import START, Rig

from nomaflow.client import KernelClient
from nomaflow.client.values import AttemptView, EventView, ReasonView, RunView, StepView
from nomaflow_alerts.usual_times import Samples

AT = datetime.fromtimestamp(START, UTC)


class _Kernel:
    """A kernel with runs of one job, the newest first."""

    def __init__(self) -> None:
        self.runs: list[RunView] = []
        self.asked = 0

    async def list_runs(self, *, job_id: str, states: list[str], page_size: int) -> AsyncIterator[RunView]:
        assert (job_id, states, page_size) == ("nightly", ["SUCCEEDED"], 100)
        self.asked += 1
        for each in self.runs:
            yield each

    async def get_run(self, run_id: str) -> RunView:
        calls = [
            AttemptView(attempt_key=called, attempt=1, state="X", child_job_id=called)
            for called in ("first", "second", "")
        ]
        steps = tuple(StepView(name="x", attempts=(each,)) for each in calls)
        return RunView(run_id=run_id, job_id="nightly", state="RUNNING", steps=steps)


@pytest.fixture
def kernel() -> _Kernel:
    """Return a kernel without runs."""
    return _Kernel()


def _samples(kernel: _Kernel, **given: Any) -> Samples:
    rig = Rig()
    rig.job(**given)
    return Samples(client=cast(KernelClient, kernel), policies=rig.policies)


def _run(number: int, *, seconds: float = 100, rows: int | None = None, preset: str = "") -> RunView:
    ended = AT - timedelta(minutes=number)
    return RunView(
        run_id=f"run_{number}", job_id="nightly", state="SUCCEEDED", preset=preset, rows_affected=rows,
        started_at=ended - timedelta(seconds=seconds), finished_at=ended,
    )  # fmt: skip


def _started() -> EventView:
    return EventView(seq=1, at=AT, kind="run.started", run_id="run_x", job_id="nightly", host="team")


def _ended(rows: int) -> EventView:
    data = {"host": "team", "preset": "", "rows_affected": rows, "started_us": round((START - 100) * 1e6)}
    return EventView(
        seq=2, at=AT, kind="run.finished", run_id=f"run_of_{rows}", job_id="nightly", run_state="SUCCEEDED", data=data
    )


async def test_a_run_is_long_after_a_multiple_of_what_its_preset_takes(kernel: _Kernel) -> None:
    """The newest 50 runs before it count, and none of another preset; the kernel is asked for them once."""
    kernel.runs = [_run(-number, seconds=900) for number in range(5)]
    kernel.runs += [_run(1, seconds=900, preset="big")] * 5 + [*map(_run, range(2, 52))]
    kernel.runs += [_run(number, seconds=900) for number in range(52, 80)]
    samples = _samples(kernel, long_run_factor=2)
    for _ in range(2):
        assert (await samples.findings([_started()])).long_after == {"run_x": 200}
    assert kernel.asked == 1


async def test_runs_that_end_meanwhile_count(kernel: _Kernel) -> None:
    """Fewer than 20 say nothing of what is usual, and a run of ours is the 20th."""
    kernel.runs = [*map(_run, range(1, 20))]
    samples = _samples(kernel, long_run_factor=3)
    assert (await samples.findings([_started()])).long_after == {}
    assert (await samples.findings([_ended(10), _started()])).long_after == {"run_x": 300}


async def test_usual_rows_are_those_of_the_runs_before(kernel: _Kernel) -> None:
    """The newest 30 of them, and from the next run on those of this one."""
    kernel.runs = [_run(number, rows=number * 10) for number in range(1, 6)]
    samples = _samples(kernel, rows_change_percent=50)
    found = await samples.findings([_ended(60), _ended(70)])
    assert found.median_rows == {"run_of_60": (30, 20, 40), "run_of_70": (35, 22.5, 47.5)}
    kernel.runs = [_run(number, rows=10 if number < 30 else 999) for number in range(90)]
    found = await _samples(kernel, rows_max=50).findings([_ended(60)])
    assert found.median_rows == {"run_of_60": (10, 10, 10)}


async def test_a_job_without_such_rules_asks_for_nothing(kernel: _Kernel) -> None:
    """A rule of other conditions needs no samples."""
    found = await _samples(kernel, on_long_run_minutes=5).findings([_started(), _ended(10)])
    assert (found.long_after, found.median_rows, kernel.asked) == ({}, {}, 0)


async def test_a_failure_by_a_called_job_names_the_last_one(kernel: _Kernel) -> None:
    """The earlier ones have succeeded."""
    failed = EventView(seq=1, at=AT, kind="run.finished", run_id="run_x", job_id="nightly", run_state="FAILED",
                       reason=ReasonView(code="child_failed", message="it failed"))  # fmt: skip
    assert (await _samples(kernel).findings([failed])).child_jobs == {"run_x": "second"}
