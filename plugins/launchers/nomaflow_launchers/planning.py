"""The decision what to start and what to end, from what the kernel wants and what the engine has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from nomaflow.client.values import ResourcesView, WantedView
from nomaflow_project.jobs.resources import MOST, Resources, lacking
from nomaflow_project.models.launcher_section import LauncherSection, LauncherShape

__all__ = ["Launched", "Plan", "plan"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched:
    """An instance as the engine lists it.

    :param engine_id: the engine's id of its job
    :param shape: the name of its shape
    :param running_seconds: for how long its job has run; None if it waits for a machine
    """

    engine_id: str
    host: str
    shape: str
    running_seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The next acts.

    :param starts: hosts and shapes to start an instance of, one for each
    :param surplus: engine ids of instances that wait for a machine and are no longer wanted
    :param stuck: engine ids of instances that run and have not attached in time
    :param unfit: needs that no shape meets, in words
    """

    starts: Sequence[tuple[str, LauncherShape]] = ()
    surplus: Sequence[str] = ()
    stuck: Sequence[str] = ()
    unfit: Sequence[str] = ()


def plan(
    section: LauncherSection,
    *,
    wanted: Sequence[WantedView],
    launched: Sequence[Launched],
    attached: Collection[str],
) -> Plan:
    """Return the next acts.

    An instance that has attached takes waiting attempts at once, so what is still wanted is wanted besides it. One that
    was started and has not attached yet counts against the demand.

    :param launched: every instance that the engine lists, of this launcher
    :param attached: engine ids of those that have attached to the kernel
    """
    needed: Counter[tuple[str, str]] = Counter()
    unfit: list[str] = []
    shapes = {each.name: each for each in section.shapes or (LauncherShape(name="default"),)}
    for demand in wanted:
        if demand.host not in section.hosts:
            continue
        shape = _fitting(demand.needs, shapes.values())
        if shape is None:
            unfit.append(f"no shape of [launcher] has what a step of host {demand.host!r} needs: {_text(demand.needs)}")
        else:
            needed[demand.host, shape.name] += math.ceil(demand.attempts / _at_once(demand.needs, shape))
    coming = [each for each in launched if each.engine_id not in attached]
    stuck = [each for each in coming if (each.running_seconds or 0.0) > section.start_seconds]
    starting = Counter((each.host, each.shape) for each in coming)
    starts = [key for key, count in needed.items() for _ in range(count - starting[key])]
    room = max(0, section.max_instances - len(launched))
    return Plan(
        starts=[(host, shapes[name]) for host, name in starts[:room]],
        surplus=list(_surplus(coming, needed)),
        stuck=[each.engine_id for each in stuck],
        unfit=unfit,
    )


def _surplus(coming: Sequence[Launched], needed: Counter[tuple[str, str]]) -> Iterator[str]:
    """Yield the ids of instances beyond the demand that have no machine yet; the last one submitted first."""
    left = Counter(needed)
    left.subtract((each.host, each.shape) for each in coming)
    for each in reversed(coming):
        key = each.host, each.shape
        if each.running_seconds is None and left[key] < 0:
            left[key] += 1
            yield each.engine_id


def _fitting(needs: ResourcesView, shapes: Collection[LauncherShape]) -> LauncherShape | None:
    return next((shape for shape in shapes if not lacking(_as_resources(needs), shape.resources)), None)


def _at_once(needs: ResourcesView, shape: LauncherShape) -> int:
    """Return how many attempts with such needs one instance runs at once."""
    asked = {name: getattr(needs, name) for name in MOST}
    counts = [int((getattr(shape, name) + 1e-6) / amount) for name, amount in asked.items() if amount]
    return max(1, min([shape.steps, *counts]))


def _as_resources(needs: ResourcesView) -> Resources:
    return Resources(cpu=needs.cpu, memory_mb=needs.memory_mb, gpus=needs.gpus, labels=dict(needs.labels))


def _text(needs: ResourcesView) -> str:
    amounts = [f"{name} = {getattr(needs, name):g}" for name in MOST if getattr(needs, name)]
    return ", ".join([*amounts, *(f"label {name} = {value!r}" for name, value in needs.labels.items())])
