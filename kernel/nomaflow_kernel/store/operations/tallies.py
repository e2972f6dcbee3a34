"""Counting runs, and the newest runs of many jobs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from decimal import Decimal
from functools import cache
from operator import itemgetter
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    BindParameter,
    Connection,
    Integer,
    Select,
    bindparam,
    cast,
    func,
    literal_column,
    select,
)

from nomaflow_kernel.history.lookups import LastState, RecentRun, RunCount
from nomaflow_kernel.history.records import RunRecord
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.operations.conditions import equal, of_value, within
from nomaflow_kernel.store.operations.run_lists import id_range
from nomaflow_kernel.store.rows import LISTED_RUN, listed_request, run_of
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


def last_runs(connection: Connection, job_ids: Sequence[str]) -> dict[str, RunRecord]:
    """Return the newest run of each job that has one."""
    return {run.job_id: run for run in map(run_of, _newest(connection, job_ids))}


def last_states(connection: Connection, job_ids: Sequence[str]) -> dict[str, LastState]:
    """Return the state of the newest run of each job that has one, and the host that ran it."""
    rows = _newest(connection, job_ids, "job_id", "state", "host")
    return {job_id: LastState(_STATES[state], host) for job_id, state, host in rows}


def recent_runs(
    connection: Connection, job_ids: Sequence[str], *, last: int, preset: str = ""
) -> dict[str, list[RecentRun]]:
    """Return the newest runs of each job that has one, newest first.

    :param preset: only runs that were started with it, among a bounded number of the newest of each job
    """
    if not job_ids:
        return {}
    looked_at = max(_LOOKED_AT // len(job_ids), last) if preset else last
    names = ["job_id", *RecentRun.__struct_fields__, *(["request"] if preset else [])]
    found: dict[str, list[RecentRun]] = {}
    rows = _newest(connection, job_ids, *names, newer=looked_at - 1)
    for job_id, run_id, host, state, *facts in sorted(rows, key=itemgetter(1), reverse=True):
        of_job = found.setdefault(job_id, [])
        if len(of_job) < last and (not preset or _preset(facts.pop()) == preset):
            of_job.append(RecentRun(run_id, host, _STATES[state], *facts))
    return found


def _newest(connection: Connection, job_ids: Sequence[str], *names: str, newer: int = 0) -> Sequence[Any]:
    query = _newest_of_each(connection.dialect.name, *names)
    return connection.execute(query, {"job_ids": json.dumps(list(job_ids)), "newer": newer}).all()


@cache
def _newest_of_each(dialect: str, *names: str) -> Select[Any]:
    """Return the query for columns of the newest runs of each job that has one, or for all columns if none is named.

    Building it takes longer than running it for a few jobs. The jobs are given as ``job_ids``, a JSON array: however
    many there are, the statement is the same. ``newer`` is the number of runs above the last one of a job.
    """
    given: BindParameter[str] = bindparam("job_ids")
    array = func.json_array_elements_text(cast(given, JSON)) if dialect == "postgresql" else func.json_each(given)
    jobs, one = array.table_valued("value"), runs.alias("one")
    newest_first = one.c.job_id.desc(), one.c.run_id.desc()
    ids = select(one.c.run_id).where(*of_value(one.c.job_id, one.c.run_id, jobs.c.value)).order_by(*newest_first)
    oldest = ids.limit(1).offset(bindparam("newer", type_=Integer)).correlate(jobs).scalar_subquery()
    columns = [LISTED_RUN[name] for name in names or LISTED_RUN]
    query = select(*columns).select_from(jobs).join(runs, runs.c.job_id == jobs.c.value)
    return query.where(runs.c.run_id >= func.coalesce(oldest, ""))


def _preset(request: str) -> Any:
    return json.loads(listed_request(request)).get("preset", "") if '"preset"' in request else ""
