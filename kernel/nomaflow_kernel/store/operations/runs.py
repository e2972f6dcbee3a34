"""Reading runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, bindparam, or_, select

from nomaflow_kernel.history.lookups import ActiveRuns, RunDetail, RunSubject
from nomaflow_kernel.history.records import PLAN_FIELDS, AttemptRecord, QueuedRun, RunRecord, TriggerKind, author_of
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.operations.conditions import chunks
from nomaflow_kernel.store.rows import ATTEMPTS, RUNS
from nomaflow_kernel.store.schema import attempts, definitions, runs
from nomaflow_project.jobs.step_types import CALL_JOB_STEP

_SHORT = 256
"""The most characters of a request that is remembered."""
_TRIGGER_KINDS = {kind.value: kind for kind in TriggerKind}
_SELECT_RUNS = select(runs).where(runs.c.run_id.in_(bindparam("ids", expanding=True)))
_SELECT_ATTEMPTS = (
    select(attempts)
    .where(attempts.c.run_id.in_(bindparam("ids", expanding=True)))
    .order_by(attempts.c.run_id, attempts.c.step_index, attempts.c.attempt)
)
_DEFINITIONS = select(definitions.c.digest, definitions.c.body).where(
    definitions.c.digest.in_(bindparam("digests", expanding=True))
)
_OF_WAITING = select(definitions.c.digest, definitions.c.body).where(
    definitions.c.digest.in_(select(runs.c.definition_digest).where(runs.c.state == RunState.QUEUED.value)),
    or_(
        definitions.c.body.not_like('%"queue_timeout_seconds":null%'),
        definitions.c.body.like(f'%"type":"{CALL_JOB_STEP}"%'),
        definitions.c.body.like('%"enabled":false%'),
        definitions.c.body.like('%"steps":{"%'),
    ),
)
"""The definitions of waiting runs with a limit, a call_job step, or steps that a request or a preset may switch off.

The text of a definition is canonical, so it has no blanks.
"""
_SUBJECTS = select(runs.c.run_id, runs.c.job_id, runs.c.host, runs.c.trigger_kind, runs.c.trigger_by).where(
    runs.c.run_id.in_(bindparam("ids", expanding=True))
)


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
        runs.c.definition_digest,
        runs.c.trigger_kind,
        runs.c.trigger_at_us,
        runs.c.trigger_by,
    )
    queued: Iterable[Any] = connection.execute(
        select(*columns).where(runs.c.state == RunState.QUEUED.value).order_by(runs.c.run_id)
    )
    known = {digest: _queue_facts(json.loads(body)) for digest, body in connection.execute(_OF_WAITING)}
    return ActiveRuns(
        running=run_details(connection, running.all()),
        queued=[_queued(known, *row) for row in queued],
    )


def _queued(
    known: Mapping[str, _DefinitionFacts],
    run_id: str, job_id: str, host: str, priority: int, queued_at_us: int, request: str, digest: str,
    trigger_kind: str, trigger_at_us: int | None, trigger_by: str,
) -> QueuedRun:  # fmt: skip
    allow_overlap, preset, changes_plan, leaves_out = (_known_wishes if len(request) <= _SHORT else _wishes)(request)
    kind = _TRIGGER_KINDS[trigger_kind]
    author = author_of(kind, trigger_by)
    facts = known.get(digest, _NO_FACTS)
    return QueuedRun(
        run_id=run_id,
        job_id=job_id,
        host=host,
        priority=priority,
        queued_at_us=queued_at_us,
        allow_overlap=allow_overlap,
        job_host=host,
        preset=preset,
        slot_us=trigger_at_us if kind is TriggerKind.CRON else None,
        author="" if author == "owner" else author,
        kind=kind,
        definition_digest="" if changes_plan else sys.intern(digest),
        queue_timeout_seconds=facts.queue_timeout_seconds,
        may_need_none=facts.may_need_none or leaves_out or preset in facts.presets,
    )


class _DefinitionFacts(Struct, frozen=True, kw_only=True):
    """Facts that the queue needs from a definition.

    :param queue_timeout_seconds: how long its runs may wait
    :param may_need_none: whether a run may need no host to start: a step calls a job, or none is switched on
    :param presets: the presets that switch a step off
    """

    queue_timeout_seconds: float | None = None
    may_need_none: bool = False
    presets: frozenset[str] = frozenset()


_NO_FACTS = _DefinitionFacts()


def _queue_facts(definition: Mapping[str, Any]) -> _DefinitionFacts:
    steps, presets = definition.get("steps", ()), definition.get("presets", ())
    calls_jobs = any(step["type"] == CALL_JOB_STEP for step in steps)
    return _DefinitionFacts(
        queue_timeout_seconds=definition.get("queue_timeout_seconds"),
        may_need_none=calls_jobs or not any(step.get("enabled", True) for step in steps),
        presets=frozenset(preset["name"] for preset in presets if False in preset.get("steps", {}).values()),
    )


def _wishes(request: str) -> tuple[bool, str, bool, bool]:
    """Return what the queue needs from a request: its preset, and whether it allows overlap, changes the plan, and
    leaves out a step.
    """
    said = json.loads(request)
    leaves_out = False in said.get("switches", {}).values() or bool(said.get("reuse"))
    return said.get("allow_overlap", False), said.get("preset", ""), any(map(said.get, PLAN_FIELDS)), leaves_out


_known_wishes = lru_cache(maxsize=1024)(_wishes)
"""A hundred thousand runs that wait have few different requests, and a kernel that takes over reads them all."""


def run_details(connection: Connection, run_ids: Sequence[str]) -> list[RunDetail]:
    """Return the runs that exist, in the order asked for."""
    found: dict[str, RunRecord] = {}
    tries: dict[str, list[AttemptRecord]] = {}
    for chunk in chunks(run_ids):
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
    """Return the subjects of the runs that exist; looking up one that does not exist takes as long."""
    return [
        RunSubject(run_id=run_id, job_id=job_id, host=host, kind=TriggerKind(kind), by=by)
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
