"""Steps of failed runs are not asked for again with each page, and nothing stale is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from nomaflow.client.values import AttemptView, RunPageView, RunView, StepView
from nomaflow_console.kernel.kept_steps import KeptSteps


def run(run_id: str, state: str, *, seq: int = 1, error: str = "") -> RunView:
    """Return a run as a list has it."""
    return RunView(run_id=run_id, job_id="job", state=state, last_event_seq=seq, error=error)


class Kernel:
    """Answers with the runs that the test sets, each with one step, and notes what it is asked."""

    def __init__(self, *runs: RunView) -> None:
        self.runs = {each.run_id: each for each in runs}
        self.asked: list[Sequence[str]] = []

    async def list_runs_page(self, *, run_ids: Sequence[str], with_steps: bool, page_size: int) -> RunPageView:
        """Return runs with their steps."""
        assert with_steps
        assert page_size >= len(run_ids)
        self.asked.append(run_ids)
        return RunPageView(runs=tuple(self._detail(self.runs[run_id]) for run_id in run_ids))

    def _detail(self, run: RunView) -> RunView:
        attempt = AttemptView(attempt_key=f"{run.run_id}#1", attempt=run.last_event_seq, state=run.state, error="no")
        return replace(run, steps=(StepView(name="load", attempts=(attempt,), max_attempts=3),))

    async def told(self, kept: KeptSteps) -> list[tuple[str, int]]:
        """Return state and number of the attempt that each row tells of; a row without a step has 0."""
        kernel: Any = self
        shown = await kept.into(kernel, tuple(self.runs.values()))
        return [(each.state, each.steps[0].last.attempt if each.steps else 0) for each in shown]


async def test_steps_of_a_failed_run_are_asked_for_once_and_those_of_one_that_runs_each_time() -> None:
    """A run that succeeded has none in its row."""
    kernel, kept = Kernel(run("a", "FAILED"), run("b", "RUNNING"), run("c", "SUCCEEDED")), KeptSteps()
    for _ in range(3):
        assert await kernel.told(kept) == [("FAILED", 1), ("RUNNING", 1), ("SUCCEEDED", 0)]
    assert kernel.asked == [["a", "b"], ["b"], ["b"]]


async def test_steps_are_asked_for_again_once_a_run_has_changed_or_its_values_are_hidden() -> None:
    """Each change of a run has an event; and where a grant is gone, the run's error is."""
    kernel, kept = Kernel(run("a", "FAILED", error="no rows")), KeptSteps()
    await kernel.told(kept)
    for changed in (run("a", "FAILED", seq=2, error="no rows"), run("a", "FAILED", seq=2)):
        kernel.runs["a"] = changed
        assert await kernel.told(kept) == [("FAILED", 2)]
    assert kernel.asked == [["a"]] * 3
    assert await kernel.told(kept) == [("FAILED", 2)]
    assert len(kernel.asked) == 3


async def test_only_the_runs_shown_last_are_kept() -> None:
    """However many pages somebody reads, they stay some hundreds."""
    kept = KeptSteps()
    for first in range(0, 1_000, 50):
        await Kernel(*(run(f"r{number}", "FAILED") for number in range(first, first + 50))).told(kept)
    again = Kernel(*(run(f"r{number}", "FAILED") for number in (999, 0)))
    await again.told(kept)
    assert again.asked == [["r0"]]
