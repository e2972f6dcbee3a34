"""Placement: the choice of the instance that gets a step, and which instances can run it at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.engine.active_run import ActiveRun
from nomaflow_kernel.engine.fleet import Fleet, Instance
from nomaflow_kernel.engine.run_plan import PlannedStep
from nomaflow_kernel.engine.state import EngineState
from nomaflow_project.jobs.callables import kind_of
from nomaflow_project.jobs.definitions import IsolationChoice
from nomaflow_project.jobs.resources import MOST, lacking

_TINY = 1e-6  # sums of fractions of cores are not exact


def pick(state: EngineState, run: ActiveRun, step: PlannedStep, *, exclusive: bool) -> Instance | None:
    """Return an instance of a run's host that accepts one of the run's steps; None if there is none now."""
    if is_at_limit(state, run.host):
        return None
    if step.wants_instance:
        own = state.fleet.own(run.key_of(step))
        return own if own is not None and own.serves and _takes(state, run, step, own) else None
    return roomiest(state.fleet, run.host, exclusive=exclusive, fits=partial(_takes, state, run, step))


def roomiest(
    fleet: Fleet, host: str, *, exclusive: bool, fits: Callable[[Instance], bool] = lambda _: True
) -> Instance | None:
    """Return the instance of a host with the most free slots of a kind; None if no slot is free.

    Those that were started for one attempt do not count.

    :param fits: whether an instance may be chosen
    """
    best: Instance | None = None
    room = 0
    for instance in fleet.of_host(host):
        if instance.serves_all:
            free = instance.free(exclusive=exclusive)
            if free > room and fits(instance):
                best, room = instance, free
    return best


def _takes(state: EngineState, run: ActiveRun, step: PlannedStep, instance: Instance) -> bool:
    if instance.host != run.host or not has_code(state, run, instance):
        return False
    return _has_room(instance, step) and lasts_for(instance, step, state.clock)


def has_code(state: EngineState, run: ActiveRun, instance: Instance) -> bool:
    """Return whether an instance has the manifest that a run's job is from, or one that serves it as well."""
    if instance.link is None:
        return False
    digest = run.record.definition_digest
    return state.jobs.may_serve(instance.host, instance.link.digest, run.job_id, digest)


def full_kinds(state: EngineState, host: str) -> set[bool]:
    """Return the kinds of steps, exclusive (True) or not, that no instance of a host accepts now."""
    at_limit = is_at_limit(state, host)
    return {kind for kind in (False, True) if at_limit or roomiest(state.fleet, host, exclusive=kind) is None}


def is_at_limit(state: EngineState, host: str) -> bool:
    """Return whether a host's instances hold as many steps as its max_parallel allows."""
    limit = state.jobs.max_parallel(host)
    return limit is not None and state.fleet.held(host) >= limit


def is_exclusive(state: EngineState, host: str, isolation: IsolationChoice, callable: str) -> bool:
    """Return whether a call uses an exclusive slot of its host."""
    if isolation in (IsolationChoice.EXCLUSIVE, IsolationChoice.INSTANCE):
        return True
    return isolation is IsolationChoice.BY_KIND and kind_of(state.jobs.manifest(host), callable) == "sync"


def _has_room(instance: Instance, step: PlannedStep) -> bool:
    """Return whether an instance has what a step needs, and enough of it is left."""
    needs = step.resources
    if needs is None:
        return True
    taken = instance.reserved.values()
    has = instance.hello.has
    return not lacking(needs, has) and all(
        getattr(needs, name) + sum(getattr(each, name) for each in taken) <= getattr(has, name) + _TINY
        for name in MOST
        if getattr(needs, name)
    )


def lasts_for(instance: Instance, step: PlannedStep, clock: Clock) -> bool:
    """Return whether the time of an instance's machine lasts beyond a step's timeout."""
    if not instance.hello.ends_at_us or step.timeout_seconds is None:
        return True
    ends_at_us = instance.hello.ends_at_us - instance.clock_offset_us
    return clock.now_us() + step.timeout_seconds * 1_000_000 <= ends_at_us


def missing(instances: Sequence[Instance], step: PlannedStep) -> str:
    """Return what a step asks for that no instance has even when it is empty, in words; empty if one has it all.

    If all lack something, the answer is about the one that lacks least.
    """
    needs = step.resources
    if needs is None:
        return ""
    lacks = [lacking(needs, instance.hello.has) for instance in instances]
    fewest = min(lacks, key=len) if lacks else []
    return ", ".join(fewest)
