"""Placement: the instances that can run a step, by what each has, how much of it is left and how long it lasts."""

from __future__ import annotations

from collections.abc import Sequence

from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.plan import PlannedStep
from nomaflow_project.jobs.resources import MOST, lacking

__all__ = ["has_room", "lasts_for", "missing"]

_TINY = 1e-6  # sums of fractions of cores are not exact


def has_room(instance: Instance, step: PlannedStep) -> bool:
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

    What several lack is told of the one that lacks least.
    """
    needs = step.resources
    if needs is None:
        return ""
    lacks = [lacking(needs, instance.hello.has) for instance in instances]
    fewest = min(lacks, key=len) if lacks else []
    return ", ".join(fewest)
