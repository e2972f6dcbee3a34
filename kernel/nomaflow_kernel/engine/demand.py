"""The demand for instances: attempts that are due and could run if there were one more, by host and need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nomaflow_api.value_class import value_class
from nomaflow_kernel.engine import explaining
from nomaflow_kernel.engine.state import NO_HOST, EngineState
from nomaflow_kernel.history.records import QueuedRun
from nomaflow_kernel.history.states import AttemptState
from nomaflow_project.jobs.definitions import JobDefinition, canonical_json
from nomaflow_project.jobs.resources import Resources

__all__ = ["Demand", "demand"]

_FOR_INSTANCES = frozenset({"waiting_for_host", "no_fitting_instance", "waiting_for_slot"})


@value_class
class Demand:
    """Attempts of one host that wait for an instance and need the same.

    :param attempts: how many wait; of a job no more than may run at once
    :param since_us: since when the first of them has waited
    """

    host: str
    needs: Resources
    attempts: int
    since_us: int


_Waiting = tuple[Resources | None, int, int]
"""The needs of attempts, how many wait, and since when."""


def demand(state: EngineState) -> Sequence[Demand]:
    """Return the demand of every host, by host and then by what is needed, for most attempts first.

    It iterates over the jobs with QUEUED runs, and not over these runs.
    """
    found: list[Demand] = []
    continuing = (host for host, line in state.continuing.items() if line)
    for host in sorted({*state.waiting.hosts(), *continuing} - {NO_HOST}):
        limit = state.jobs.max_parallel(host)
        room = None if limit is None else max(0, limit - state.fleet.held(host))
        found += _bounded(_grouped(host, [*_running(state, host), *_queued(state, host)]), room)
    return found


def _running(state: EngineState, host: str) -> Iterator[_Waiting]:
    for run_id in state.continuing.get(host, ()):
        run = state.active.get(run_id)
        if run is not None and run.current is not None and run.current.state is AttemptState.PENDING:
            yield run.current.step.resources, 1, run.current.not_before_us


def _queued(state: EngineState, host: str) -> Iterator[_Waiting]:
    for job_id in state.waiting.jobs_of_host(host):
        entry = state.waiting.oldest_of_job(job_id)
        job = state.jobs.job(job_id)
        if entry is None or job is None or job.definition is None:
            continue
        attempts = _may_start(state, entry, job.definition)
        reason = explaining.waiting_reason(state, entry)
        if attempts > 0 and (reason is None or reason.code in _FOR_INSTANCES):
            yield _first_needs(state, entry, job.definition), attempts, entry.queued_at_us


def _may_start(state: EngineState, entry: QueuedRun, job: JobDefinition) -> int:
    """Return how many QUEUED runs of a job may start now, if there are instances for all."""
    waiting, running = state.waiting.count_of_job(job.id), len(state.running.get(job.id, ()))
    if explaining.runs_alone(job, entry):
        return min(waiting, 1 - running)
    return waiting if job.max_parallel is None else min(waiting, job.max_parallel - running)


def _first_needs(state: EngineState, entry: QueuedRun, job: JobDefinition) -> Resources | None:
    """Return what the first step of a QUEUED run needs; of one whose data is not in memory, as its job says."""
    run = state.specs.get(entry.run_id)
    if run is not None:
        return None if run.plan.first is None else run.plan.first.resources
    return next((step.resources for step in job.steps if step.enabled), None)


def _grouped(host: str, waiting: Iterable[_Waiting]) -> list[Demand]:
    groups: dict[str, Demand] = {}
    for asked, attempts, since_us in waiting:
        needs = asked or Resources()
        key = canonical_json(needs.to_json())
        known = groups.get(key)
        if known is not None:
            attempts, since_us = known.attempts + attempts, min(known.since_us, since_us)
        groups[key] = Demand(host=host, needs=needs, attempts=attempts, since_us=since_us)
    return sorted(groups.values(), key=lambda each: -each.attempts)


def _bounded(demands: Sequence[Demand], room: int | None) -> Iterator[Demand]:
    """Yield the demands that fit into the host's max_parallel; more instances would not help the others."""
    for each in demands:
        attempts = each.attempts if room is None else min(each.attempts, room)
        room = None if room is None else room - attempts
        if attempts:
            yield Demand(host=each.host, needs=each.needs, attempts=attempts, since_us=each.since_us)
