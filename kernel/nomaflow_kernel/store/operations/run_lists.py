"""Lists of runs, one page at a time: each walks indexes from one end and looks at a bounded number of runs.

A *walk* is a set of conditions that one index answers in the order of the run ids. What no index answers is checked run
by run, down to a floor: the page may then be short, and the next one continues there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from sqlalchemy import Column, ColumnElement, Connection, Select, select, text, union

from nomaflow_kernel.history.ids import first_run_id
from nomaflow_kernel.history.lookups import RunFilter, RunPage, VisibleRuns
from nomaflow_kernel.history.records import RunRecord
from nomaflow_kernel.history.states import RUN_TERMINAL
from nomaflow_kernel.store.operations.conditions import is_by, of_value, plain, within
from nomaflow_kernel.store.operations.runs import begun_job_ids
from nomaflow_kernel.store.rows import LISTED_RUN, run_of
from nomaflow_kernel.store.schema import attempts, runs

_LOOKED_AT = 10_000
"""The most runs that one page looks at, over all its walks."""
_LEAST_OF_A_WALK = 100
_MOST_NAMED = 1000
_WALKS = 100
"""Indexes walked in one statement; SQLite takes no more than 500."""
SLACK_MS = 60_000
"""Milliseconds by which an id and the run's own time may differ."""
_AFTER_ALL = "~"
_LEAST = "0"
"""Appended to an id, it makes the next text in order: higher than the id, and lower than any higher id."""
_IS_REPLAY = text("runs.replay_of <> ''")
"""Literal, as in the partial index: SQLite uses it only for exactly the same condition."""
_Conditions = list[ColumnElement[bool]]


class _Walk(Struct, frozen=True):
    """The runs with one value in a column that has an index, or all of them.

    :param kept: conditions that are checked run by run
    """

    column: Column[Any] | None = None
    value: str = ""
    kept: tuple[ColumnElement[bool], ...] = ()

    @property
    def path(self) -> list[Column[Any]]:
        """The columns of the index, in its order."""
        return [runs.c.run_id] if self.column is None else [self.column, runs.c.run_id]

    def between(self, low: str, high: str) -> _Conditions:
        """Return the conditions of its runs from an id on, and before another."""
        if self.column is None:
            return [runs.c.run_id >= low, runs.c.run_id < high]
        return of_value(self.column, runs.c.run_id, self.value, low, high)


@dataclass(kw_only=True, slots=True)
class _Search:
    """The conditions by which the runs of a page are found.

    :param low: the lowest id
    :param high: the id that all are lower than
    :param exact: conditions that are cheap to check, since the ids nearly decide them
    :param checked: conditions that no index answers
    """

    low: str
    high: str
    walks: list[_Walk]
    exact: _Conditions
    checked: _Conditions

    def ids(self, walk: _Walk, *conditions: ColumnElement[bool], oldest_first: bool) -> Select[tuple[str]]:
        """Return the query for the ids of a walk, in order."""
        query = select(runs.c.run_id).where(*walk.between(self.low, self.high), *conditions)
        return query.order_by(*(column.asc() if oldest_first else column.desc() for column in walk.path))

    def of(self, walk: _Walk) -> _Conditions:
        """Return the conditions of a walk but those on its ids."""
        return [*walk.kept, *self.exact, *self.checked]


def list_runs(connection: Connection, filter: RunFilter, *, before: str, limit: int) -> RunPage:
    """Return runs newest first, only ids lower than ``before`` (empty: from the newest).

    Oldest first, it returns only ids higher than ``before``. A filter without an index looks at a bounded number of
    runs, so that the page may be short, or empty, and still not be the last one.
    """
    named = _named_ids(connection, filter)
    if named is not None:
        found, floor = _read_named(connection, filter, named, before), ""
    else:
        search = _search(connection, filter, before)
        floor = _floor(connection, filter, search)
        if floor and filter.oldest_first:
            search.high = min(search.high, floor + _LEAST)
        elif floor:
            search.low = max(search.low, floor)
        found = _read(connection, filter, search, limit + 1)
    page = found[:limit]
    if len(found) > limit:
        return RunPage(runs=page, next_before=page[-1].run_id if page else "")
    return RunPage(runs=page, next_before=floor, scanned_to=floor)


def _search(connection: Connection, filter: RunFilter, before: str) -> _Search:
    low, high = id_range(filter.since_us, filter.until_us)
    if filter.run_id_prefix:
        low, high = max(low, filter.run_id_prefix), min(high, filter.run_id_prefix + _AFTER_ALL)
    if before and filter.oldest_first:
        low = max(low, before + _LEAST)
    elif before:
        high = min(high, before)
    search = _Search(
        low=low,
        high=high,
        walks=_whose(connection, filter),
        exact=within(runs.c.queued_at_us, filter.since_us, filter.until_us),
        checked=_checked(filter),
    )
    states = sorted(set(filter.states))
    if not states:
        return search
    anybodys = filter.visible is None and filter.job_ids is None
    if anybodys and (not _of_one(filter) or RUN_TERMINAL.isdisjoint(states)):
        # There are few open runs, whoever owns them.
        kept = tuple(plain(column) == value for column, value in _of_one(filter))
        search.walks = [_Walk(runs.c.state, state.value, kept) for state in states]
    else:
        search.checked.append(plain(runs.c.state).in_([state.value for state in states]))
    return search


def _of_one(filter: RunFilter) -> list[tuple[Column[Any], str]]:
    """Return the columns that a filter gives one value, with the value."""
    return [(column, value) for column, value in ((runs.c.job_id, filter.job_id), (runs.c.host, filter.host)) if value]


def _checked(filter: RunFilter) -> _Conditions:
    """Return the conditions of a filter that no index answers."""
    checked: _Conditions = []
    if filter.exclude_job_ids:
        checked.append(plain(runs.c.job_id).not_in(filter.exclude_job_ids))
    if filter.trigger_kinds:
        checked.append(runs.c.trigger_kind.in_([kind.value for kind in filter.trigger_kinds]))
    if filter.triggered_by:
        checked.append(is_by(runs.c.trigger_by, filter.triggered_by))
    if filter.reason_codes:
        checked.append(runs.c.reason_code.in_(filter.reason_codes))
    if filter.log_levels:
        checked.append(runs.c.log_levels.op("&")(filter.log_levels) != 0)
    return checked


def id_range(since_us: int | None, until_us: int | None) -> tuple[str, str]:
    """Return the lowest id of runs queued from an instant on, and one above those queued before another.

    None stands for no end. Some runs of other times are between these; a condition on their own times leaves them out.
    """
    low = "" if since_us is None else first_run_id(since_us // 1000 - SLACK_MS)
    high = _AFTER_ALL if until_us is None else first_run_id(until_us // 1000 + SLACK_MS)
    return low, high


# --- whose runs ---------------------------------------------------------------------------------------------------


def _whose(connection: Connection, filter: RunFilter) -> list[_Walk]:
    """Return a walk for each job, host, or job of a host that the filter keeps; one of all runs if it keeps all."""
    if filter.visible is None and filter.job_ids is None:
        if filter.job_id:
            return [_of_job(filter.job_id, filter.host)]
        return [_Walk(runs.c.host, filter.host) if filter.host else _Walk()]
    visible = filter.visible
    if visible is None:
        job_ids, hosts, pairs = set(filter.job_ids or ()), set[str](), set[tuple[str, str]]()
    else:
        begun = (job_id for prefix in visible.prefixes for job_id in begun_job_ids(connection, prefix))
        job_ids, hosts, pairs = {*visible.job_ids, *begun}, set(visible.hosts), set(visible.jobs_of_hosts)
        if filter.job_ids is not None:
            tagged = set(filter.job_ids)
            pairs = {pair for pair in pairs if pair[0] in tagged} | {(job, host) for job in tagged for host in hosts}
            job_ids, hosts = job_ids & tagged, set()
    if filter.job_id:
        job_ids &= {filter.job_id}
    if filter.host:
        hosts &= {filter.host}
        pairs = {pair for pair in pairs if pair[1] == filter.host}
    kept = sorted((job, host) for job, host in pairs if filter.job_id in ("", job) and job not in job_ids)
    if filter.job_id:
        kept += [(filter.job_id, host) for host in sorted(hosts) if filter.job_id not in job_ids]
        hosts = set()
    return [
        *(_of_job(each, filter.host) for each in sorted(job_ids)),
        *(_Walk(runs.c.host, each) for each in sorted(hosts)),
        *(_of_job(job, host) for job, host in kept),
    ]


def _of_job(job_id: str, host: str) -> _Walk:
    """Return the walk of a job's runs, only of those on ``host`` unless that is empty."""
    return _Walk(runs.c.job_id, job_id, (plain(runs.c.host) == host,) if host else ())


# --- a few runs that are named ------------------------------------------------------------------------------------


def _named_ids(connection: Connection, filter: RunFilter) -> Sequence[str] | None:
    """Return the few runs that a filter names, directly or by what they come from; None if it names none."""
    named = [] if filter.run_ids is None else [set(filter.run_ids)]
    if filter.parent_run_id:
        of_parent = select(attempts.c.child_run_id).where(attempts.c.run_id == filter.parent_run_id)
        named.append(set(connection.execute(of_parent.where(attempts.c.child_run_id != "")).scalars()))
    if filter.replay_of:
        replays = select(runs.c.run_id).where(runs.c.replay_of == filter.replay_of, _IS_REPLAY)
        named.append(set(connection.execute(replays.order_by(runs.c.run_id.desc()).limit(_MOST_NAMED)).scalars()))
    return sorted(set.intersection(*named))[-_MOST_NAMED:] if named else None


def _read_named(connection: Connection, filter: RunFilter, ids: Sequence[str], before: str) -> list[RunRecord]:
    exact = within(runs.c.queued_at_us, filter.since_us, filter.until_us)
    query = (
        select(*LISTED_RUN.values()).where(runs.c.run_id.in_(ids), *exact, *_checked(filter)).order_by(_order(filter))
    )
    return [run for run in map(run_of, connection.execute(query)) if _keeps(filter, run, before)]


def _keeps(filter: RunFilter, run: RunRecord, before: str) -> bool:
    continued = not before or (run.run_id > before if filter.oldest_first else run.run_id < before)
    return (
        continued
        and run.run_id.startswith(filter.run_id_prefix)
        and filter.job_id in ("", run.job_id)
        and filter.host in ("", run.host)
        and (not filter.states or run.state in filter.states)
        and (filter.job_ids is None or run.job_id in filter.job_ids)
        and (filter.visible is None or _sees(filter.visible, run))
    )


def _sees(visible: VisibleRuns, run: RunRecord) -> bool:
    return (
        run.job_id in visible.job_ids
        or run.host in visible.hosts
        or run.job_id.startswith(visible.prefixes)
        or (run.job_id, run.host) in visible.jobs_of_hosts
    )


# --- reading ------------------------------------------------------------------------------------------------------


def _order(filter: RunFilter) -> ColumnElement[Any]:
    return runs.c.run_id.asc() if filter.oldest_first else runs.c.run_id.desc()


def _floor(connection: Connection, filter: RunFilter, search: _Search) -> str:
    """Return the id down to which the walks may look, for a bounded number of runs; empty if they may look at all."""
    if not search.checked and not any(walk.kept for walk in search.walks):
        return ""
    share = max(_LOOKED_AT // max(len(search.walks), 1), _LEAST_OF_A_WALK)
    ends = _union(
        connection, [search.ids(walk, oldest_first=filter.oldest_first).limit(1).offset(share) for walk in search.walks]
    )
    if not ends:
        return ""
    return min(ends) if filter.oldest_first else max(ends)


def _read(connection: Connection, filter: RunFilter, search: _Search, limit: int) -> list[RunRecord]:
    queries = [
        search.ids(walk, *search.of(walk), oldest_first=filter.oldest_first).limit(limit) for walk in search.walks
    ]
    if len(queries) == 1:
        rows = connection.execute(queries[0].with_only_columns(*LISTED_RUN.values()))
        return [run_of(row) for row in rows]
    ids = sorted(_union(connection, queries), reverse=not filter.oldest_first)[:limit]
    query = select(*LISTED_RUN.values()).where(runs.c.run_id.in_(ids)).order_by(_order(filter))
    return [run_of(row) for row in connection.execute(query)]


def _union(connection: Connection, queries: Sequence[Select[tuple[str]]]) -> set[str]:
    """Return the ids of all queries, as many of them in one statement as SQLite takes."""
    found: set[str] = set()
    for start in range(0, len(queries), _WALKS):
        parts = [select(query.subquery()) for query in queries[start : start + _WALKS]]
        found.update(connection.execute(union(*parts)).scalars())
    return found
