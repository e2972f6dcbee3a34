"""The steps of runs in lists: those of a failed run stay as they are, so they are asked for once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

from msgspec.structs import replace
from starlette.requests import Request

from nomaflow.client import KernelClient
from nomaflow.client.values import AttemptView, RunView, StepView
from nomaflow_console.kernel.calls import principal_of
from nomaflow_console.views.tries import without_values

MOST_OPEN = 50
"""Runs of a list that are shown with their steps, and open runs that a page shows; it says how many more there are."""
_MOST_KEPT = 200
_Key: TypeAlias = tuple[str, int, str]


class KeptSteps:
    """The steps that all with the same token may see, of the failed runs asked for last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, tuple[StepView, ...]] = OrderedDict()

    async def into(self, kernel: KernelClient, runs: Sequence[RunView]) -> tuple[RunView, ...]:
        """Return runs, with the steps of those whose row tells of a step: the first 50 that run or have failed.

        Those of a failed run have of their newest attempt the state and the number.
        """
        told = [run for run in runs if run.state in ("RUNNING", "FAILED")][:MOST_OPEN]
        missing = [run.run_id for run in told if _key(run) not in self._kept]
        found: dict[str, RunView] = {}
        if missing:
            page = await kernel.list_runs_page(run_ids=missing, with_steps=True, page_size=MOST_OPEN)
            found = {run.run_id: without_values(run) for run in page.runs}
        for run in (found.get(run.run_id, run) for run in told):
            if run.state == "FAILED" and run.steps:
                self._kept[_key(run)] = tuple(map(_in_short, run.steps))
        shown = tuple(self._with_steps(found.get(run.run_id, run)) for run in runs)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return shown

    def _with_steps(self, run: RunView) -> RunView:
        key = _key(run)
        if key not in self._kept:
            return run
        self._kept.move_to_end(key)
        return replace(run, steps=self._kept[key])


def _key(run: RunView) -> _Key:
    """Return what is another one after the run has changed, or the caller may no longer read its values."""
    return run.run_id, run.last_event_seq, run.error


def _in_short(step: StepView) -> StepView:
    last = step.last
    short = AttemptView(attempt_key=last.attempt_key, attempt=last.attempt, state=last.state)
    return replace(step, attempts=(short,) if step.attempts else ())


def kept_steps(request: Request) -> KeptSteps:
    """Return the steps kept for a session's token."""
    return principal_of(request).kept(KeptSteps, KeptSteps)
