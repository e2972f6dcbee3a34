"""Reading runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, case, func, or_, select, tuple_

from nomaflow_kernel.history.ids import attempt_key
from nomaflow_kernel.history.lookups import ActiveRuns, EndedAttempt, RunDetail, RunSubject
from nomaflow_kernel.history.records import (
    LARGE_REQUEST,
    NO_HOST,
    PREVIOUS_STEPS_BYTES,
    STEP_FIELDS,
    AttemptRecord,
    QueuedRun,
    RunRecord,
    TriggerKind,
    author_of,
)
from nomaflow_kernel.history.states import ATTEMPT_TERMINAL, AttemptState, RunState
from nomaflow_kernel.store.operations.conditions import chunks
from nomaflow_kernel.store.rows import ATTEMPTS, RUNS
from nomaflow_kernel.store.schema import attempts, definitions, runs
from nomaflow_project.jobs.step_types import CALL_JOB_STEP

_SHORT = 256
"""The most characters of a request that is remembered."""
_TRIGGER_KINDS = {kind.value: kind for kind in TriggerKind}
_SELECT_RUNS = select(runs).where(runs.c.run_id.in_(bindparam("ids", expanding=True)))
_REQUEST = select(runs.c.request).where(runs.c.run_id == bindparam("id"))
"""A large request, one at a time: PostgreSQL's driver reads all rows before it gives the first."""
_SMALL_RESULT = 4096
_SIZE = func.length(attempts.c.extras_json)  # is read from the row's header: the result stays on its pages
_SMALL = {"extras_json": case((_SIZE <= _SMALL_RESULT, attempts.c.extras_json)).label("extras_json")}
_SELECT_ATTEMPTS = (
    select(*(_SMALL.get(column.name, column) for column in attempts.c), _SIZE.label("size"))
    .where(attempts.c.run_id.in_(bindparam("ids", expanding=True)))
    .order_by(attempts.c.run_id, attempts.c.step_index, attempts.c.attempt)
)
_RESULTS = select(attempts.c.run_id, attempts.c.step_index, attempts.c.attempt, attempts.c.extras_json).where(
    tuple_(attempts.c.run_id, attempts.c.step_index, attempts.c.attempt).in_(bindparam("keys", expanding=True))
)
_DEFINITIONS = select(definitions.c.digest, definitions.c.body).where(
    definitions.c.digest.in_(bindparam("digests", expanding=True))
)
_DIGESTS_OF_WAITING = select(runs.c.definition_digest).where(runs.c.state == RunState.QUEUED.value)
_LEAVES_OUT = or_(runs.c.request.like('%"switches":{%'), runs.c.request.like('%"reuse":{%'))
_OF_WAITING = select(definitions.c.digest, definitions.c.body).where(
    definitions.c.digest.in_(_DIGESTS_OF_WAITING),
    or_(
        definitions.c.digest.in_(_DIGESTS_OF_WAITING.where(_LEAVES_OUT)),
        definitions.c.body.not_like('%"queue_timeout_seconds":null%'),
        definitions.c.body.like(f'%"type":"{CALL_JOB_STEP}"%'),
        definitions.c.body.like('%"enabled":false%'),
        definitions.c.body.like('%"steps":{"%'),
    ),
)
"""The definitions of waiting runs with a limit, a call_job step, or steps that a request or a preset leaves out.

The text of a definition is canonical, so it has no blanks.
"""
_ENDED = (
    select(
        attempts.c.run_id,
        attempts.c.step,
        attempts.c.attempt,
        attempts.c.state,
        attempts.c.incarnation,
        attempts.c.report_seq,
        runs.c.job_id,
        runs.c.host,
        runs.c.definition_digest,
    )
    .join(runs, runs.c.run_id == attempts.c.run_id)
    .where(attempts.c.run_id.in_(bindparam("ids", expanding=True)))
)
_SUBJECTS = select(runs.c.run_id, runs.c.job_id, runs.c.host, runs.c.trigger_kind, runs.c.trigger_by).where(
    runs.c.run_id.in_(bindparam("ids", expanding=True))
)


class _Step(Struct):
    """A step, as the queue needs it."""

    name: str
    type: str
    enabled: bool = True


class _Preset(Struct):
    """A preset, as the queue needs it: with the steps that it switches."""

    name: str
    steps: dict[str, bool] = {}


class _Definition(Struct):
    """A definition, as the queue needs it: the whole may be a hundred times as large."""

    steps: tuple[_Step, ...] = ()
    presets: tuple[_Preset, ...] = ()
    queue_timeout_seconds: float | None = None


class _OnLost(Struct):
    """A definition, as an answer to a late report needs it."""

    retry_on_lost: bool = False


def active_runs(connection: Connection) -> ActiveRuns:
    """Return RUNNING runs whole and QUEUED ones slim, in the order they were queued."""
    running = connection.execute(
        select(runs.c.run_id).where(runs.c.state == RunState.RUNNING.value).order_by(runs.c.run_id)
    ).scalars()
    columns = (
        case((func.length(runs.c.request) <= LARGE_REQUEST, runs.c.request)),
        runs.c.run_id,
        runs.c.job_id,
        runs.c.host,
        runs.c.priority,
        runs.c.queued_at_us,
        runs.c.definition_digest,
        runs.c.trigger_kind,
        runs.c.trigger_at_us,
        runs.c.trigger_by,
    )
    queued: Iterable[Any] = connection.execute(
        select(*columns).where(runs.c.state == RunState.QUEUED.value).order_by(runs.c.run_id)
    )
    known = {digest: msgspec.json.decode(body, type=_Definition) for digest, body in connection.execute(_OF_WAITING)}
    return ActiveRuns(
        running=run_details(connection, running.all(), as_steps_see=True),
        queued=[
            _queued(
                known, connection.execute(_REQUEST, {"id": facts[0]}).scalar_one() if text is None else text, *facts
            )
            for text, *facts in queued
        ],
    )


def _queued(
    known: Mapping[str, _Definition], request: str,
    run_id: str, job_id: str, host: str, priority: int, queued_at_us: int, digest: str,
    trigger_kind: str, trigger_at_us: int | None, trigger_by: str,
) -> QueuedRun:  # fmt: skip
    wishes, changes_steps = (_known_wishes if len(request) <= _SHORT else _wishes)(request)
    kind = _TRIGGER_KINDS[trigger_kind]
    author = author_of(kind, trigger_by)
    definition = known.get(digest)
    return QueuedRun(
        run_id=run_id,
        job_id=job_id,
        host=host if definition is None or _needs_host(definition, wishes) else NO_HOST,
        priority=priority,
        queued_at_us=queued_at_us,
        allow_overlap=wishes.get("allow_overlap", False),
        job_host=host,
        preset=wishes.get("preset", ""),
        slot_us=trigger_at_us if kind is TriggerKind.CRON else None,
        author="" if author == "owner" else author,
        kind=kind,
        definition_digest="" if changes_steps else sys.intern(digest),
        queue_timeout_seconds=None if definition is None else definition.queue_timeout_seconds,
        large=kind is TriggerKind.REPLAY or len(request) > LARGE_REQUEST,
    )


def _needs_host(definition: _Definition, wishes: Mapping[str, Any]) -> bool:
    """Return whether a run needs a slot of its host to start: the first step that it runs is no call_job."""
    name = wishes.get("preset", "")
    of_preset = next((each.steps for each in definition.presets if each.name == name), {}) if name else {}
    switched = {**of_preset, **wishes.get("switches", {})}
    for step in definition.steps:
        if switched.get(step.name, step.enabled) and step.name not in wishes.get("reuse", ()):
            return step.type != CALL_JOB_STEP
    return False


def _wishes(request: str) -> tuple[Mapping[str, Any], bool]:
    """Return what a request asks for, and whether the run may begin with another step than its job."""
    said = json.loads(request)
    return said, any(map(said.get, STEP_FIELDS))


_known_wishes = lru_cache(maxsize=1024)(_wishes)
"""A hundred thousand runs that wait have few different requests, and a kernel that takes over reads them all."""


def run_details(
    connection: Connection, run_ids: Sequence[str], *, result_bytes: int = 0, as_steps_see: bool = False
) -> list[RunDetail]:
    """Return the runs that exist, in the order asked for.

    :param result_bytes: for each run, how much of its attempts' results is read besides the small ones, newest first
    :param as_steps_see: whether to read instead those that later steps see, and that of the last step, which is the
        result of the run
    """
    found: dict[str, RunRecord] = {}
    tries: dict[str, list[AttemptRecord]] = {}
    for chunk in chunks(run_ids):
        for row in connection.execute(_SELECT_RUNS, {"ids": chunk}):
            run = RUNS.record(row)
            found[run.run_id] = run
        rows = connection.execute(_SELECT_ATTEMPTS, {"ids": chunk}).all()
        results = _results(connection, _seen_by_steps(rows) if as_steps_see else _within(result_bytes, rows[::-1]))
        for row in rows:
            attempt = ATTEMPTS.record(row)
            if attempt.extras_json is None:
                key = attempt.run_id, attempt.step_index, attempt.attempt
                attempt = replace(attempt, extras_json=results.get(key))
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


def _seen_by_steps(rows: Sequence[Any]) -> list[Any]:
    last_tries = list({(row.run_id, row.step_index): row for row in rows}.values())
    of_runs = {row.run_id: row for row in last_tries if row.size}
    return [*_within(PREVIOUS_STEPS_BYTES, last_tries), *of_runs.values()]


def _within(most_bytes: int, rows: Sequence[Any]) -> Iterator[Any]:
    """Yield the rows whose results there is room for in each run."""
    left = {row.run_id: most_bytes for row in rows}
    for row in rows:
        if row.size <= left[row.run_id]:
            left[row.run_id] -= row.size
            yield row


def _results(connection: Connection, rows: Iterable[Any]) -> dict[tuple[str, int, int], bytes]:
    """Return the results that were not read with their rows."""
    keys = {(row.run_id, row.step_index, row.attempt) for row in rows if row.extras_json is None}
    return {
        (run_id, step_index, attempt): extras_json
        for chunk in chunks(keys)
        for run_id, step_index, attempt, extras_json in connection.execute(_RESULTS, {"keys": chunk})
    }


def ended_attempts(connection: Connection, run_ids: Collection[str]) -> dict[str, EndedAttempt]:
    """Return the ended attempts of the runs that exist, by their keys."""
    rows = [row for chunk in chunks(run_ids) for row in connection.execute(_ENDED, {"ids": chunk})]
    retried = {
        digest
        for chunk in chunks({row.definition_digest for row in rows})
        for digest, body in connection.execute(_DEFINITIONS, {"digests": chunk})
        if msgspec.json.decode(body, type=_OnLost).retry_on_lost
    }
    return {
        attempt_key(row.run_id, row.step, row.attempt): EndedAttempt(
            job_id=row.job_id,
            host=row.host,
            incarnation=row.incarnation,
            state=AttemptState(row.state),
            final_seq=row.report_seq,
            retry_on_lost=row.definition_digest in retried,
        )
        for row in rows
        if row.state in ATTEMPT_TERMINAL
    }


def run_subjects(connection: Connection, run_ids: Sequence[str]) -> list[RunSubject]:
    """Return the subjects of the runs that exist; looking up one that does not exist takes as long."""
    return [
        RunSubject(run_id=run_id, job_id=job_id, host=host, author=author_of(_TRIGGER_KINDS[kind], by))
        for chunk in chunks(run_ids)
        for run_id, job_id, host, kind, by in connection.execute(_SUBJECTS, {"ids": chunk})
    ]


def _definitions(connection: Connection, digests: set[str]) -> dict[str, Mapping[str, Any]]:
    bodies: dict[str, Mapping[str, Any]] = {}
    for chunk in chunks(sorted(digests)):
        rows = connection.execute(_DEFINITIONS, {"digests": chunk})
        bodies.update((digest, json.loads(body)) for digest, body in rows)
    return bodies


def job_ids(connection: Connection) -> list[str]:
    """Return every job with a run: one step in the index per job, however many runs."""
    return list(begun_job_ids(connection, ""))


def begun_job_ids(connection: Connection, prefix: str) -> Iterator[str]:
    """Yield the ids with a run that begin with ``prefix``, sorted."""
    query = select(runs.c.job_id).where(runs.c.job_id >= prefix).order_by(runs.c.job_id).limit(1)
    while (found := connection.execute(query).scalar_one_or_none()) is not None and found.startswith(prefix):
        yield found
        query = select(runs.c.job_id).where(runs.c.job_id > found).order_by(runs.c.job_id).limit(1)
