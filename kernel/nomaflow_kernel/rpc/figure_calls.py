"""SummarizeRuns and GetJobStats: figures over many of the runs that the caller may read."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from nomaflow_api.percentiles import percentile_95
from nomaflow_api.v1 import run_figures_pb2 as figures
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.message_codec import encode
from nomaflow_kernel.access.grants import Verb
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.history.lookups import RecentRun, RunCount
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.rpc.parts import Calls
from nomaflow_kernel.rpc.requests import (
    check_each,
    check_job_id,
    check_most,
    check_name,
    check_place,
    listed_numbers,
    range_us,
)
from nomaflow_kernel.rpc.run_pages import jobs_of_tag, tags_of_job

_RANGE_US = 31 * 86_400_000_000 + 3_600_000_000
"""31 days, even if a change of the clocks makes one of them longer."""
_MOST_COUNTS = 10_000
_MOST_JOBS = 200
_MOST_LAST = 100
_LAST = 20
_JOBS_PER_TURN = 25
_Column = Literal["job_id", "host", "trigger_kind"]
_COLUMNS: dict[int, _Column] = {
    figures.RUN_GROUPING_JOB: "job_id",
    figures.RUN_GROUPING_HOST: "host",
    figures.RUN_GROUPING_TRIGGER: "trigger_kind",
    figures.RUN_GROUPING_TAG: "job_id",
}
_GROUPINGS = {figures.RUN_GROUPING_STATE, *_COLUMNS}
_EXPECTED = "STATE, JOB, HOST, TRIGGER or TAG"
_NUMBERS = {state: run_pb2.RunState.Value(f"RUN_STATE_{state.name}") for state in RunState}
_JUDGED = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED)


class FigureCalls(Calls):
    """Serves SummarizeRuns and GetJobStats."""

    async def summarize_runs(
        self, request: figures.SummarizeRunsRequest, caller: Caller
    ) -> figures.SummarizeRunsResponse:
        """Return how many runs there are in each state, and of each job, host or trigger."""
        check_place(request)
        check_name(request.tag, "tag")
        listed_numbers([request.group_by or figures.RUN_GROUPING_STATE], _GROUPINGS, "group_by", _EXPECTED)
        also = listed_numbers(request.also_by, _GROUPINGS, "also_by", _EXPECTED)
        since_us, until_us = self._range(request)
        wanted = self._wanted(request, caller)
        if since_us is None:
            found: Iterable[RunCount] = self._engine.open_runs()
        else:
            by = {_COLUMNS[each] for each in (request.group_by, *also) if each in _COLUMNS}
            if not caller.principal.may_all(Verb.READ):
                by |= {"job_id", "host"}
            if request.tag:
                by.add("job_id")
            found = await self._store.count_runs(
                since_us=since_us, until_us=until_us, job_id=request.job_id, host=request.host, by=sorted(by)
            )
        kept = list(filter(wanted, found))
        counts = _summed(kept, self._groups(request.group_by, caller))
        for each in also:
            counts += _summed(kept, self._groups(each, caller), grouping=each)
        return figures.SummarizeRunsResponse(counts=counts)

    def _groups(self, grouping: figures.RunGrouping.ValueType, caller: Caller) -> Callable[[RunCount], Iterable[str]]:
        """Return the function that gives the groups of a count."""
        if grouping == figures.RUN_GROUPING_TAG:
            return lambda count: dict.fromkeys(tags_of_job(self._catalogue, count.job_id, caller))
        column = _COLUMNS.get(grouping)
        return lambda count: ("" if column is None else getattr(count, column),)

    def _range(self, request: figures.SummarizeRunsRequest) -> tuple[int | None, int]:
        since_us, until_us = range_us(request)
        if since_us is None and until_us is not None:
            raise BadRequest("until is set and since is not, expected both, or neither for open runs", field="since")
        until_us = self._clock.now_us() + 1 if until_us is None else until_us
        if since_us is not None and until_us - since_us > _RANGE_US:
            raise BadRequest("since lies more than 31 days before until; ask for a shorter time", field="since")
        return since_us, until_us

    def _wanted(self, request: figures.SummarizeRunsRequest, caller: Caller) -> Callable[[RunCount], bool]:
        """Return a function that says whether a count is asked for and may be read by the caller."""
        tagged = frozenset(jobs_of_tag(self._catalogue, request.tag, caller)) if request.tag else None
        sees_all, sees = caller.principal.may_all(Verb.READ), self._guard.sees_run
        of_store = request.HasField("since")  # the store has kept the job and the host already

        def wanted(count: RunCount) -> bool:
            if tagged is not None and count.job_id not in tagged:
                return False
            if not of_store and not (request.job_id in ("", count.job_id) and request.host in ("", count.host)):
                return False
            return sees_all or sees(count.job_id, count.host, caller)

        return wanted

    async def get_job_stats(self, request: figures.GetJobStatsRequest, caller: Caller) -> figures.GetJobStatsResponse:
        """Return the newest runs of jobs that the caller may read, and what is usual for them."""
        check_each(request.job_ids, _MOST_JOBS, "job_ids", check_job_id)
        check_most(request.last, _MOST_LAST, "last")
        check_name(request.preset, "preset")
        may, target_of = caller.principal.may, self._guard.target_of_job
        seen = [job_id for job_id in dict.fromkeys(request.job_ids) if may(Verb.READ, target_of(job_id))]
        recent = await self._store.recent_runs(seen, last=request.last or _LAST, preset=request.preset)
        if not caller.principal.may_all(Verb.READ):
            sees = self._guard.sees_run
            recent = {
                job_id: [run for run in of_job if sees(job_id, run.host, caller)] for job_id, of_job in recent.items()
            }
        jobs = []
        for number, job_id in enumerate(seen):
            if job_id in recent or self._catalogue.job(job_id):
                jobs.append(_stats(job_id, recent.get(job_id, ())))
            if number % _JOBS_PER_TURN == _JOBS_PER_TURN - 1:
                await asyncio.sleep(0)  # give other tasks a turn
        return figures.GetJobStatsResponse(jobs=jobs)


def _summed(
    found: Iterable[RunCount],
    groups: Callable[[RunCount], Iterable[str]],
    *,
    grouping: figures.RunGrouping.ValueType = figures.RUN_GROUPING_UNSPECIFIED,
) -> list[figures.RunCount]:
    """Return the counts of groups, sorted."""
    sums: dict[tuple[str, RunState], list[int]] = {}
    for count in found:
        for group in groups(count):
            total = sums.setdefault((group, count.state), [0, 0, 0])
            total[0] += count.runs
            total[1] += count.fires
            total[2] += count.rows_affected
    most = sorted(sums.items(), key=lambda item: -item[1][0])[:_MOST_COUNTS]
    return [
        figures.RunCount(
            group=group,
            state=_NUMBERS[state],
            runs=runs,
            fires=fires,
            rows_affected=max(-(2**63), min(rows, 2**63 - 1)),
            grouping=grouping,
        )
        for (group, state), (runs, fires, rows) in sorted(most, key=lambda item: (item[0][0], _NUMBERS[item[0][1]]))
    ]


def _stats(job_id: str, recent: Sequence[RecentRun]) -> figures.JobStats:
    succeeded = [run for run in recent if run.state is RunState.SUCCEEDED]
    rows = [run.rows_affected for run in succeeded if run.rows_affected is not None]
    judged = sum(run.state in _JUDGED for run in recent)
    waits = [(run.started_at_us - run.queued_at_us) / 1_000_000 for run in recent if run.started_at_us is not None]
    return figures.JobStats(
        job_id=job_id,
        recent=[encode(figures.RecentRun, run) for run in recent],
        median_seconds=median_seconds(recent),
        p95_seconds=percentile_95(_seconds(recent)),
        median_rows=statistics.median_low(rows) if rows else None,
        success_ratio=len(succeeded) / judged if judged else None,
        median_wait_seconds=statistics.median(waits) if waits else None,
    )


def median_seconds(recent: Sequence[RecentRun]) -> float | None:
    """Return the median time from start to finish of the runs that succeeded; None if none did."""
    seconds = _seconds(recent)
    return statistics.median(seconds) if seconds else None


def _seconds(recent: Sequence[RecentRun]) -> list[float]:
    """Return the times from start to finish of the runs that succeeded."""
    return [
        max(run.finished_at_us - run.started_at_us, 0) / 1_000_000
        for run in recent
        if run.state is RunState.SUCCEEDED and run.started_at_us is not None and run.finished_at_us is not None
    ]
