"""Figures of jobs are not asked for again with each page, and nothing stale is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nomaflow.client.values import JobStatsView, JobView, RecentRunView, RunView
from nomaflow_console.kernel.figures import KeptFigures

AT = datetime(2026, 11, 26, 8, tzinfo=UTC)


class Kernel:
    """Answers with the runs of each job that the test sets, and notes what it is asked."""

    def __init__(self, **recent: list[tuple[str, str]]) -> None:
        self.recent = recent
        self.asked: list[list[str]] = []

    async def job_stats(self, job_ids: list[str], *, last: int) -> dict[str, JobStatsView]:
        """Return figures, one for each job."""
        self.asked.append(list(job_ids))
        return {
            job_id: JobStatsView(
                job_id=job_id,
                recent=tuple(RecentRunView(run_id=run_id, state=state) for run_id, state in self.recent[job_id][:last]),
            )
            for job_id in job_ids
            if job_id in self.recent
        }

    def jobs(self) -> dict[str, JobView]:
        """Return the jobs as a list has them, each with its newest run."""
        newest = {job_id: runs[0] if runs else None for job_id, runs in self.recent.items()}
        return {
            job_id: JobView(
                job_id=job_id,
                last_run=None if run is None else RunView(run_id=run[0], job_id=job_id, state=run[1], queued_at=AT),
            )
            for job_id, run in newest.items()
        }

    async def figures(self, kept: KeptFigures, *wanted: str) -> dict[str, list[str]]:
        """Return the runs that the figures of jobs are made of."""
        kernel: Any = self
        found = await kept.of(kernel, self.jobs(), wanted)
        return {job_id: [run.run_id for run in figures.recent] for job_id, figures in found.items()}


async def test_figures_of_jobs_that_have_not_run_since_are_not_asked_for_again() -> None:
    """A job that never ran is not asked for again either; a job that is new to the page is asked for alone."""
    kernel, kept = Kernel(a=[("r1", "SUCCEEDED")], b=[], c=[("r3", "FAILED"), ("r2", "SUCCEEDED")]), KeptFigures()
    for _ in range(3):
        assert await kernel.figures(kept, "a", "b") == {"a": ["r1"], "b": []}
    assert await kernel.figures(kept, "a", "c") == {"a": ["r1"], "c": ["r3", "r2"]}
    assert kernel.asked == [["a", "b"], ["c"]]


async def test_figures_are_asked_for_again_after_each_run() -> None:
    """A new newest run, and one that has ended since, are another answer; so is what a job without a run has run."""
    kernel, kept = Kernel(a=[("r1", "SUCCEEDED")], b=[]), KeptFigures()
    await kernel.figures(kept, "a", "b")
    kernel.recent["a"].insert(0, ("r2", "RUNNING"))
    kernel.recent["b"] = [("r3", "SUCCEEDED")]
    assert await kernel.figures(kept, "a", "b") == {"a": ["r2", "r1"], "b": ["r3"]}
    kernel.recent["a"][0] = ("r2", "FAILED")
    assert await kernel.figures(kept, "a", "b") == {"a": ["r2", "r1"], "b": ["r3"]}
    assert kernel.asked == [["a", "b"], ["a", "b"], ["a"]]


async def test_figures_with_a_run_that_goes_on_are_not_kept() -> None:
    """An older run ends while the newest one stays what it is: the bar of the older one must not stay as it was."""
    kernel, kept = Kernel(a=[("r2", "SUCCEEDED"), ("r1", "RUNNING")]), KeptFigures()
    await kernel.figures(kept, "a")
    kernel.recent["a"][1] = ("r1", "FAILED")
    await kernel.figures(kept, "a")
    await kernel.figures(kept, "a")
    assert kernel.asked == [["a"], ["a"]]


async def test_figures_that_are_newer_than_the_list_of_jobs_are_not_kept() -> None:
    """A run began between the two answers: the next page asks again."""
    kernel, kept = Kernel(a=[("r1", "SUCCEEDED")]), KeptFigures()
    jobs = kernel.jobs()
    kernel.recent["a"].insert(0, ("r2", "SUCCEEDED"))
    client: Any = kernel
    await kept.of(client, jobs, ["a"])
    await kept.of(client, jobs, ["a"])
    assert len(kernel.asked) == 2
