"""The runs that the first page asks for are those of each job, however many one of them has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import pytest

from nomaflow.client import KernelClient
from nomaflow.client.values import RunPageView, RunView
from nomaflow_console.kernel import overview
from nomaflow_console.kernel.overview import newest_of_each_job, newest_runs


class _Kernel:
    """A kernel with runs of two jobs, newest first."""

    def __init__(self, runs: Sequence[RunView]) -> None:
        self._runs = runs
        self.asked: list[set[str]] = []

    async def list_runs_page(
        self, *, states: Sequence[str], page_size: int, exclude_job_ids: Collection[str], **_: Any
    ) -> RunPageView:
        self.asked.append(set(exclude_job_ids))
        found = [run for run in self._runs if run.state in states and run.job_id not in exclude_job_ids]
        return RunPageView(runs=tuple(found[:page_size]), next_page_token="more" if len(found) > page_size else "")


async def test_a_long_queue_of_one_job_does_not_hide_the_waits_of_others() -> None:
    """The answer is full of it; the next one leaves that job out."""
    loud = [RunView(run_id=f"run_{number}", job_id="loud", state="QUEUED") for number in range(80)]
    quiet = RunView(run_id="run_quiet", job_id="quiet", state="QUEUED")
    kernel = _Kernel([*loud, quiet])
    found, more_of = await newest_runs(cast(KernelClient, kernel), ["QUEUED"], page_size=50)
    assert [run.job_id for run in found] == ["loud"] * 50 + ["quiet"]
    assert kernel.asked == [set(), {"loud"}]
    assert more_of == {"loud"}


async def test_no_question_leaves_out_more_jobs_than_the_kernel_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses a longer list, and the page would be an error."""
    monkeypatch.setattr(overview, "_MOST_LEFT_OUT", 2)
    runs = [RunView(run_id=f"run_{number}", job_id=f"job_{number}", state="QUEUED") for number in range(9)]
    kernel = _Kernel(runs)
    await newest_runs(cast(KernelClient, kernel), ["QUEUED"], page_size=2)
    assert kernel.asked == [set(), {"job_0", "job_1"}]


async def test_jobs_that_share_an_answer_may_all_have_more_runs() -> None:
    """The page tells the least number that there may be."""
    runs = [RunView(run_id=f"run_{number}", job_id=f"job_{number % 2}", state="QUEUED") for number in range(60)]
    found, more_of = await newest_runs(cast(KernelClient, _Kernel(runs)), ["QUEUED"], page_size=50)
    assert (len(found), more_of) == (50, {"job_0", "job_1"})


def test_repeated_failures_take_no_steps_away_from_those_of_other_jobs() -> None:
    """The first fifty are asked for with their steps: those that the page tells of, and not each failure of a job."""
    loud = [RunView(run_id=f"run_{number}", job_id="loud", state="FAILED") for number in range(80)]
    missed = RunView(run_id="run_missed", job_id="loud", state="MISSED")
    quiet = RunView(run_id="run_quiet", job_id="quiet", state="FAILED")
    assert newest_of_each_job([missed, *loud, quiet]) == [loud[0], quiet]
