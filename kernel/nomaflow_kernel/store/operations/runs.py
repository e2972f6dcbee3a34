"""Reading runs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, func, literal, select, union, union_all

from nomaflow_kernel.history.ids import first_run_id
from nomaflow_kernel.history.port import ActiveRuns, RunDetail, RunFilter, RunPage, RunSubject, VisibleRuns
from nomaflow_kernel.history.records import AttemptRecord, QueuedRun, RunRecord, TriggerKind, author_of
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.rows import ATTEMPTS, RUNS
from nomaflow_kernel.store.schema import attempts, definitions, runs

__all__ = ["active_runs", "job_ids", "last_runs", "list_runs", "run_details", "run_subjects"]

_CHUNK = 500
_SELECT_RUNS = select(runs).where(runs.c.run_id.in_(bindparam("ids", expanding=True)))
_SELECT_ATTEMPTS = (
    select(attempts)
    .where(attempts.c.run_id.in_(bindparam("ids", expanding=True)))
    .order_by(attempts.c.run_id, attempts.c.step_index, attempts.c.attempt)
)
_DEFINITIONS = select(definitions.c.digest, definitions.c.body).where(
    definitions.c.digest.in_(bindparam("digests", expanding=True))
)
_SUBJECTS = select(runs.c.run_id, runs.c.job_id, runs.c.host, runs.c.trigger_kind, runs.c.trigger_by).where(
    runs.c.run_id.in_(bindparam("ids", expanding=True))
)
_WALKS = 100
"""Indexes walked in one statement; SQLite takes no more than 500."""
_SINCE_SLACK_MS = 60_000
"""Milliseconds by which an id may be older than the run's own time."""


def active_runs(connection: Connection) -> ActiveRuns:
    """Return RUNNING runs whole and QUEUED ones slim, in the order they were queued."""
    running = connection.execute(
        select(runs.c.run_id).where(runs.c.state == RunState.RUNNING.value).order_by(runs.c.run_id)
    ).scalars()
    columns = (
        runs.c.run_id,
        runs.c.job_id,
        runs.c.host,
        runs.c.priority,
        runs.c.queued_at_us,
        runs.c.request,
        runs.c.trigger_kind,
        runs.c.trigger_at_us,
        runs.c.trigger_by,
    )
    queued = connection.execute(select(*columns).where(runs.c.state == RunState.QUEUED.value).order_by(runs.c.run_id))
    return ActiveRuns(
        running=run_details(connection, running.all()),
        queued=[_queued(row) for row in queued],
    )


def _queued(row: Any) -> QueuedRun:
    request = json.loads(row.request) if row.request != "{}" else {}
    author = author_of(TriggerKind(row.trigger_kind), row.trigger_by)
    return QueuedRun(
        run_id=row.run_id,
        job_id=row.job_id,
        host=row.host,
        priority=row.priority,
        queued_at_us=row.queued_at_us,
        allow_overlap=request.get("allow_overlap", False),
        job_host=row.host,
        preset=request.get("preset", ""),
        slot_us=row.trigger_at_us if row.trigger_kind == TriggerKind.CRON.value else None,
        author="" if author == "owner" else author,
    )


def run_details(connection: Connection, run_ids: Sequence[str]) -> list[RunDetail]:
    """Return the runs that exist, in the order asked for."""
    found: dict[str, RunRecord] = {}
    tries: dict[str, list[AttemptRecord]] = {}
    for chunk in _chunks(run_ids):
        for row in connection.execute(_SELECT_RUNS, {"ids": chunk}):
            run = RUNS.record(row)
            found[run.run_id] = run
        for row in connection.execute(_SELECT_ATTEMPTS, {"ids": chunk}):
            attempt = ATTEMPTS.record(row)
            tries.setdefault(attempt.run_id, []).append(attempt)
    bodies = _definitions(connection, {run.definition_digest for run in found.values()})
    return [
        RunDetail(
            run=found[run_id],
            attempts=tries.get(run_id, []),
            definition=bodies.get(found[run_id].definition_digest, {}),
        )
        for run_id in run_ids
        if run_id in found
    ]


def run_subjects(connection: Connection, run_ids: Sequence[str]) -> list[RunSubject]:
    """Return the subjects of the runs that exist."""
    return [
        RunSubject(run_id=run_id, job_id=job_id, host=host, kind=TriggerKind(kind), by=by)
        for chunk in _chunks(run_ids)
        for run_id, job_id, host, kind, by in connection.execute(_SUBJECTS, {"ids": chunk})
    ]


def _definitions(connection: Connection, digests: set[str]) -> dict[str, Mapping[str, Any]]:
    bodies: dict[str, Mapping[str, Any]] = {}
    for chunk in _chunks(sorted(digests)):
        rows = connection.execute(_DEFINITIONS, {"digests": chunk})
        bodies.update((digest, json.loads(body)) for digest, body in rows)
    return bodies


def list_runs(connection: Connection, filter: RunFilter, *, before: str, limit: int) -> RunPage:
    """Return one page, newest first.

    One query per requested state: each walks an index from its newest end and stops at the page's size, however long
    the history.
    """
    kept = _conditions(filter, before)
    newest_first = runs.c.run_id.desc()
    if filter.visible is not None:
        ids = _newest_visible(connection, filter, filter.visible, kept, limit + 1)
        query = select(runs).where(runs.c.run_id.in_(ids)).order_by(newest_first)
    elif len(filter.states) > 1:
        parts = [
            select(_limited(kept, limit + 1, runs.c.state == state.value).subquery())
            for state in sorted(set(filter.states))
        ]
        merged = union_all(*parts).subquery()
        query = select(merged).order_by(merged.c.run_id.desc()).limit(limit + 1)
    elif filter.states:
        query = _limited(kept, limit + 1, runs.c.state == filter.states[0].value)
    else:
        query = select(runs).where(*kept).order_by(newest_first).limit(limit + 1)
    found = [RUNS.record(row) for row in connection.execute(query)]
    page = found[:limit]
    return RunPage(runs=page, next_before=page[-1].run_id if len(found) > limit and page else "")


def _newest_visible(
    connection: Connection, filter: RunFilter, visible: VisibleRuns, kept: Sequence[ColumnElement[bool]], limit: int
) -> list[str]:
    """Return the newest run ids that a caller may read: one walk for each job or host, however long the history."""
    job_ids = {*visible.job_ids, *(job_id for prefix in visible.prefixes for job_id in _begun(connection, prefix))}
    if filter.job_id:
        job_ids &= {filter.job_id}
    hosts = set(visible.hosts) & {filter.host} if filter.host else visible.hosts
    pairs = sorted(
        (job_id, host)
        for job_id, host in set(visible.jobs_of_hosts)
        if filter.job_id in ("", job_id) and filter.host in ("", host) and job_id not in job_ids
    )
    whose = [
        *(runs.c.job_id == each for each in sorted(job_ids)),
        *(runs.c.host == each for each in hosts),
        *(and_(runs.c.job_id == job_id, runs.c.host == host) for job_id, host in pairs),
    ]
    states: list[RunState | None] = [*sorted(set(filter.states))] or [None]
    walks = [[*kept, which, *([runs.c.state == state.value] if state else [])] for which in whose for state in states]
    found: set[str] = set()
    for start in range(0, len(walks), _WALKS):
        parts = [
            select(select(runs.c.run_id).where(*walk).order_by(runs.c.run_id.desc()).limit(limit).subquery())
            for walk in walks[start : start + _WALKS]
        ]
        found.update(connection.execute(union(*parts)).scalars())
    return sorted(found, reverse=True)[:limit]


def _limited(kept: list[ColumnElement[bool]], limit: int, state: ColumnElement[bool]) -> Select[Any]:
    return select(runs).where(*kept, state).order_by(runs.c.run_id.desc()).limit(limit)


def _conditions(filter: RunFilter, before: str) -> list[ColumnElement[bool]]:
    kept: list[ColumnElement[bool]] = []
    if before:
        kept.append(runs.c.run_id < before)
    if filter.job_id:
        kept.append(runs.c.job_id == filter.job_id)
    if filter.host:
        kept.append(runs.c.host == filter.host)
    if filter.since_us is not None:
        kept.append(runs.c.run_id >= first_run_id(filter.since_us // 1000 - _SINCE_SLACK_MS))
        kept.append(runs.c.queued_at_us >= filter.since_us)
    return kept


def last_runs(connection: Connection, job_ids: Sequence[str]) -> dict[str, RunRecord]:
    """Return the newest run of each job that has one."""
    newest: dict[str, RunRecord] = {}
    for chunk in _chunks(job_ids):
        jobs = union_all(*(select(literal(job_id).label("job_id")) for job_id in chunk)).subquery()
        latest = select(func.max(runs.c.run_id)).where(runs.c.job_id == jobs.c.job_id).correlate(jobs).scalar_subquery()
        ids = [run_id for run_id in connection.execute(select(latest).select_from(jobs)).scalars() if run_id]
        for row in connection.execute(select(runs).where(runs.c.run_id.in_(ids))):
            run = RUNS.record(row)
            newest[run.job_id] = run
    return newest


def job_ids(connection: Connection) -> list[str]:
    """Return every job with a run: one step in the index per job, however many runs."""
    return list(_begun(connection, ""))


def _begun(connection: Connection, prefix: str) -> Iterator[str]:
    """Yield the ids with a run that begin so, sorted."""
    query = select(runs.c.job_id).where(runs.c.job_id >= prefix).order_by(runs.c.job_id).limit(1)
    while (found := connection.execute(query).scalar_one_or_none()) is not None and found.startswith(prefix):
        yield found
        query = select(runs.c.job_id).where(runs.c.job_id > found).order_by(runs.c.job_id).limit(1)


def _chunks(values: Sequence[str]) -> Iterator[list[str]]:
    iterator = iter(values)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk
