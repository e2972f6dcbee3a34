"""Counting runs, and the newest runs of many jobs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from decimal import Decimal
from functools import cache
from operator import itemgetter
from typing import Any, Literal

from sqlalchemy import Connection, Integer, Select, bindparam, func, literal_column, select

from nomaflow_kernel.history.lookups import RecentRun, RunCount
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.operations.conditions import equal, of_value, within
from nomaflow_kernel.store.operations.run_lists import id_range
from nomaflow_kernel.store.operations.runs import each_job
from nomaflow_kernel.store.schema import runs

_STATES = {state.value: state for state in RunState}
_ROWS = func.coalesce(runs.c.rows_affected, 0)
_HALF = 32
_SUMS = (
    func.count(),
    func.sum(func.coalesce(runs.c.fold_count, 1)),
    # In halves: SQLite refuses a sum beyond 64 bits, and one run may have reported all of them.
    func.sum(_ROWS.op(">>")(literal_column(str(_HALF)))),
    func.sum(_ROWS.op("&")(literal_column(str(2**_HALF - 1)))),
)
_LOOKED_AT = 20_000
"""The most runs that are searched for those of a preset, over all jobs."""


def count_runs(
    connection: Connection,
    *,
    since_us: int,
    until_us: int,
    job_id: str = "",
    host: str = "",
    by: Collection[Literal["job_id", "host", "trigger_kind"]] = (),
    without: tuple[str, str] | None = None,
) -> list[RunCount]:
    """Return the number of runs queued in a range, by state and whatever else is asked for.

    :param without: leaves out the ids from the first one on, before the second
    """
    low, high = id_range(since_us, until_us)
    parts = [(low, high)] if without is None else [(low, without[0]), (without[1], high)]
    exact = [*within(runs.c.queued_at_us, since_us, until_us), *equal((runs.c.job_id, job_id), (runs.c.host, host))]
    # As expressions, so that no index is used for the order of the groups: the range of ids is what is read.
    group = [runs.c[name].concat("").label(name) for name in ("state", *by)]
    found = []
    for begin, end in parts:
        ids = (runs.c.run_id >= begin, runs.c.run_id < end)
        query = select(*group, *_SUMS).where(*ids, *exact).group_by(*group)
        for state, *names_and_sums in connection.execute(query):
            found.append(_count(state, names_and_sums[len(by) :], **dict(zip(by, names_and_sums, strict=False))))
    return found


def count_slices(connection: Connection, first_id: str, end_id: str, *, length: int) -> dict[str, list[RunCount]]:
    """Return the number of runs by state for each slice that has a run, by the slice's name.

    :param first_id: the first id of the first slice
    :param end_id: the first id after the last slice
    :param length: how many of the first characters of an id name its slice
    """
    slice_, state_ = func.substr(runs.c.run_id, 1, length), runs.c.state.concat("")
    query = select(slice_, state_, *_SUMS).where(runs.c.run_id >= first_id, runs.c.run_id < end_id)
    found: dict[str, list[RunCount]] = {}
    for name, state, *sums in connection.execute(query.group_by(slice_, state_)):
        found.setdefault(name, []).append(_count(state, sums))
    return found


def _count(state: str, sums: Sequence[Decimal | int], **by: str) -> RunCount:
    """Return the count of a group; sums of PostgreSQL are decimal numbers."""
    count, fires, high, low = map(int, sums)
    return RunCount(state=_STATES[state], runs=count, fires=fires, rows_affected=(high << _HALF) + low, **by)


def recent_runs(
    connection: Connection, job_ids: Sequence[str], *, last: int, preset: str = ""
) -> dict[str, list[RecentRun]]:
    """Return the newest runs of each job that has one, newest first.

    :param preset: only runs that were started with it, among a bounded number of the newest of each job
    """
    if not job_ids:
        return {}
    looked_at = max(_LOOKED_AT // len(job_ids), last) if preset else last
    query = _newest_of_each(connection.dialect.name, requests=bool(preset))
    found: dict[str, list[RecentRun]] = {}
    rows = connection.execute(query, {"job_ids": json.dumps(list(job_ids)), "newer": looked_at - 1}).all()
    for row in sorted(rows, key=itemgetter(1), reverse=True):
        of_job = found.setdefault(row[0], [])
        if len(of_job) < last and (not preset or _preset(row[8]) == preset):
            of_job.append(
                RecentRun(
                    run_id=row[1],
                    host=row[2],
                    state=_STATES[row[3]],
                    queued_at_us=row[4],
                    started_at_us=row[5],
                    finished_at_us=row[6],
                    rows_affected=row[7],
                )
            )
    return found


@cache
def _newest_of_each(dialect: str, *, requests: bool) -> Select[Any]:
    """Return the query for the newest runs of each job; ``newer`` is the number of runs above the last one of a job."""
    jobs, one = each_job(dialect), runs.alias("one")
    newest_first = one.c.job_id.desc(), one.c.run_id.desc()
    ids = select(one.c.run_id).where(*of_value(one.c.job_id, one.c.run_id, jobs.c.value)).order_by(*newest_first)
    oldest = ids.limit(1).offset(bindparam("newer", type_=Integer)).correlate(jobs).scalar_subquery()
    columns = (
        runs.c.job_id,
        runs.c.run_id,
        runs.c.host,
        runs.c.state,
        runs.c.queued_at_us,
        runs.c.started_at_us,
        runs.c.finished_at_us,
        runs.c.rows_affected,
        *((runs.c.request,) if requests else ()),
    )
    query = select(*columns).select_from(jobs).join(runs, runs.c.job_id == jobs.c.value)
    return query.where(runs.c.run_id >= func.coalesce(oldest, ""))


def _preset(request: str) -> Any:
    return json.loads(request).get("preset", "") if '"preset"' in request else ""
