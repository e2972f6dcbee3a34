"""The demand for instances: attempts that are due and could run if there were one more, by host and need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct, structs

from nomaflow_kernel.engine import explaining
from nomaflow_kernel.engine.active_run import ActiveRun
from nomaflow_kernel.engine.run_plan import PlannedStep
from nomaflow_kernel.engine.state import EngineState
from nomaflow_kernel.history.records import NO_HOST, QueuedRun
from nomaflow_kernel.history.states import AttemptState
from nomaflow_project.jobs.definitions import IsolationChoice, JobDefinition, canonical_json
from nomaflow_project.jobs.resources import Resources

_FOR_INSTANCES = frozenset({"waiting_for_host", "no_fitting_instance", "waiting_for_slot", "waiting_for_own_instance"})
_MOST_OWN = 1000
"""The most attempts of one host that are named one by one."""


class Demand(Struct, frozen=True, kw_only=True):
    """Attempts of one host that wait for an instance and have the same needs.

    :param attempts: how many wait; no more of one job than may run at once
    :param since_us: since when the first of them has waited
    :param attempt_key: names the one attempt, if it wants an instance of its own
    :param image: the container image of that instance; empty for the launcher's own
    """

    host: str
    needs: Resources
    attempts: int
    since_us: int
    attempt_key: str = ""
    image: str = ""


def demand(state: EngineState) -> Sequence[Demand]:
    """Return the demand of every host, by host, and the largest of each host first.

    It iterates over the jobs with QUEUED runs, and over the first of these runs only where each may want an instance
    of its own. Attempts that such an instance has come for are left out.
    """
    found: list[Demand] = []
    continuing = (host for host, line in state.continuing.items() if line)
    for host in sorted({*state.waiting.hosts(), *continuing} - {NO_HOST}):
        limit = state.jobs.max_parallel(host)
        room = None if limit is None else max(0, limit - state.fleet.held(host))
        found += _bounded(_grouped([*_running(state, host), *_queued(state, host)]), room)
    return found


def _running(state: EngineState, host: str) -> Iterator[Demand]:
    for run_id in state.continuing.get(host, ()):
        run = state.active.get(run_id)
        if run is not None and run.current is not None and run.current.state is AttemptState.PENDING:
            yield from _of_step(state, run, run.current.step, run.current.not_before_us)


def _of_step(state: EngineState, run: ActiveRun, step: PlannedStep, since_us: int) -> Iterator[Demand]:
    """Yield the demand of one attempt, which is due."""
    needs, key = step.resources or Resources(), run.key_of(step) if step.wants_instance else ""
    if not key or state.fleet.own(key) is None:
        yield Demand(host=run.host, needs=needs, attempts=1, since_us=since_us, attempt_key=key, image=step.image)


def _queued(state: EngineState, host: str) -> Iterator[Demand]:
    for entry, definition, attempts in _startable(state, host):
        if any(definition.isolation_of(step) is IsolationChoice.INSTANCE for step in definition.steps):
            yield from _one_by_one(state, entry, min(attempts, _MOST_OWN))
        else:
            needs = _first_needs(state, entry, definition) or Resources()
            yield Demand(host=host, needs=needs, attempts=attempts, since_us=entry.queued_at_us)


def _startable(state: EngineState, host: str) -> Iterator[tuple[QueuedRun, JobDefinition, int]]:
    """Yield the oldest QUEUED run of each job and host, with the job, and how many may start if there are instances."""
    for job_id in state.waiting.jobs_of_host(host):
        entry = state.waiting.oldest_of_job(job_id, host=host)
        job = state.jobs.definition(job_id)
        if entry is None or job is None:
            continue
        attempts = _may_start(state, entry, job)
        reason = explaining.waiting_reason(state, entry)
        if attempts > 0 and (reason is None or reason.code in _FOR_INSTANCES):
            yield entry, job, attempts


def _one_by_one(state: EngineState, first: QueuedRun, most: int) -> Iterator[Demand]:
    """Yield the demand of the first QUEUED runs of a job and host. The data of those not in memory is asked for."""
    for entry in state.waiting.of_job(first.job_id, most, host=first.host):
        run = state.specs.find(entry.run_id)
        if run is None:
            state.wanted_specs.add(entry.run_id)
        elif run.plan.first is not None and not run.plan.first.calls_job:
            yield from _of_step(state, run, run.plan.first, entry.queued_at_us)


def _may_start(state: EngineState, entry: QueuedRun, job: JobDefinition) -> int:
    """Return how many QUEUED runs of a job and host may start now, if there are instances for all."""
    waiting, running = state.waiting.count_of_job(job.id, host=entry.host), len(state.running.get(job.id, ()))
    if explaining.runs_alone(job, entry):
        return min(waiting, 1 - running)
    return waiting if job.max_parallel is None else min(waiting, job.max_parallel - running)


def _first_needs(state: EngineState, entry: QueuedRun, job: JobDefinition) -> Resources | None:
    """Return what the first step of a QUEUED run needs; if its data is not in memory, as its job says."""
    run = state.specs.get(entry.run_id)
    first = explaining.first_of(job) if run is None else run.plan.first
    return None if first is None else first.resources


def _grouped(waiting: Iterable[Demand]) -> list[Demand]:
    """Return one demand for all attempts with the same needs that any instance may take, oldest first."""
    groups: dict[str, Demand] = {}
    for each in waiting:
        key = each.attempt_key or canonical_json(each.needs.to_json())
        known = groups.get(key)
        if known is None:
            groups[key] = each
        else:
            attempts, since_us = known.attempts + each.attempts, min(known.since_us, each.since_us)
            groups[key] = structs.replace(known, attempts=attempts, since_us=since_us)
    return sorted(groups.values(), key=lambda each: each.since_us)


def _bounded(demands: Sequence[Demand], room: int | None) -> Sequence[Demand]:
    """Return the demands that fit into the host's max_parallel; more instances would not help the others."""
    found, own = [], 0
    for each in demands:
        attempts = each.attempts if room is None else min(each.attempts, room)
        own += bool(each.attempt_key)
        if attempts and not (each.attempt_key and own > _MOST_OWN):
            room = None if room is None else room - attempts
            found.append(structs.replace(each, attempts=attempts))
    return sorted(found, key=lambda each: -each.attempts)
