"""Which instances can run a step: what each has, how much of that is left, and how long its machine lasts."""

from __future__ import annotations

from collections.abc import Sequence

from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.plan import PlannedStep
from nomaflow_project.jobs.resources import Resources

__all__ = ["has_room", "lasts_for", "missing"]

_AMOUNTS = ("cpu", "memory_mb", "gpus")
_TINY = 1e-6  # sums of fractions of cores are not exact


def has_room(instance: Instance, step: PlannedStep) -> bool:
    """Return whether an instance has what a step needs, and enough of it is left."""
    needs = step.resources
    if needs is None:
        return True
    taken = instance.reserved.values()
    return not _missing_labels(instance, needs) and all(
        getattr(needs, name) + sum(getattr(each, name) for each in taken) <= getattr(instance.hello.has, name) + _TINY
        for name in _AMOUNTS
        if getattr(needs, name)
    )


def lasts_for(instance: Instance, step: PlannedStep, now_us: int) -> bool:
    """Return whether the time of an instance's machine lasts beyond a step's timeout."""
    if not instance.hello.ends_at_us or step.timeout_seconds is None:
        return True
    ends_at_us = instance.hello.ends_at_us - instance.clock_offset_us
    return now_us + step.timeout_seconds * 1_000_000 <= ends_at_us


def missing(instances: Sequence[Instance], step: PlannedStep) -> str:
    """Return what a step asks for that no instance has even when it is empty, in words; empty if one has it all.

    What several lack is told of the one that lacks least.
    """
    needs = step.resources
    if needs is None:
        return ""
    lacks = [_lacks(instance, needs) for instance in instances]
    fewest = min(lacks, key=len) if lacks else []
    return ", ".join(fewest)


def _missing_labels(instance: Instance, needs: Resources) -> list[str]:
    has = instance.hello.has.labels
    return [
        f"label {name} = {value!r} (it has {has[name]!r})" if name in has else f"label {name} = {value!r}"
        for name, value in needs.labels.items()
        if has.get(name) != value
    ]


def _lacks(instance: Instance, needs: Resources) -> list[str]:
    return _missing_labels(instance, needs) + [
        f"{name} = {asked:g} (it has {has:g})"
        for name in _AMOUNTS
        if (asked := getattr(needs, name)) > (has := getattr(instance.hello.has, name))
    ]
