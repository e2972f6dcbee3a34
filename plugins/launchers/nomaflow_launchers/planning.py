"""The decision what to start and what to end, from what the kernel wants and what the engine has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from nomaflow.client.values import ResourcesView, WantedView
from nomaflow_api.bounds import INSTANCES_OF_HOST
from nomaflow_project.jobs.resources import MOST, Resources, lacking
from nomaflow_project.models.launcher_section import ENGINES_WITH_IMAGES, LauncherSection, LauncherShape

_FULL = "[launcher] max_instances = {} is reached: steps that need another instance wait until one ends"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_Key: TypeAlias = tuple[str, str]
"""A host and the name of a shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched:
    """An instance as the engine lists it.

    :param engine_id: the engine's id of its job
    :param shape: the name of its shape
    :param running_seconds: for how long its job has run; None if it waits for a machine
    :param attempt_key: the one attempt that it was started for; empty for one that takes any
    """

    engine_id: str
    host: str
    shape: str
    running_seconds: float | None = None
    attempt_key: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """An instance to start.

    :param attempt_key: the one attempt that it is for; empty for one that takes any. The engine keeps it with the rest
    :param image: its container image; empty for the launcher's own
    :param store_id: identifies the history of the kernel that it serves; empty, like *join*, until it is started
    :param join: the join string with which it gets an identity of its own, a secret that is good once. The engine hands
        it over in a file, never in an argument or a variable. Empty where the kernel is on a Unix socket
    """

    host: str
    shape: LauncherShape
    attempt_key: str = ""
    image: str = ""
    store_id: str = ""
    join: str = field(default="", repr=False)

    @property
    def kind(self) -> tuple[str, str, str]:
        """The facts by which an engine refuses an instance, and all that are alike."""
        return self.host, self.shape.name, self.image


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The next acts.

    :param surplus: engine ids of instances that wait for a machine and are no longer wanted
    :param stuck: engine ids of instances that run and have not attached in time
    :param unmet: why nothing is started for some of the attempts, in words
    """

    starts: Sequence[Order] = ()
    surplus: Sequence[str] = ()
    stuck: Sequence[str] = ()
    unmet: Sequence[str] = ()


def plan(
    section: LauncherSection,
    *,
    wanted: Sequence[WantedView],
    launched: Sequence[Launched],
    attached: Collection[str],
    idle: Collection[str] = (),
    heard: Collection[str] = (),
    known: Collection[str] = (),
    kernel_seconds: float = math.inf,
    refused: Collection[tuple[str, str, str]] = (),
) -> Plan:
    """Return the next acts.

    An instance that has attached takes waiting attempts at once, so what is still wanted is wanted besides it. One that
    was started and has not attached yet counts against the demand. For an attempt that wants an instance of its own,
    one is started as long as the engine lists none. What has waited longest comes first.

    :param launched: every instance that the engine lists, of this launcher
    :param attached: engine ids of those that have attached to the kernel
    :param idle: engine ids of those that have attached and run nothing: beside a new one of them, no other would help
    :param heard: engine ids of those that the kernel hears now: they run, though the engine may list none of them
    :param known: engine ids of those that have served, even if they are away now: they are never stuck
    :param kernel_seconds: for how long the kernel has led: those that served an earlier one have to find it first
    :param refused: kinds of instances that the engine has just refused: they come last, and hold up no others
    """
    shapes = {each.name: each for each in section.shapes or (LauncherShape(name="default"),)}
    needed, begun, own, unfit = _demand(section, wanted, shapes.values())
    away = [each for each in launched if each.engine_id not in attached]
    coming = [each for each in away if not served_before(each, known, kernel_seconds)]
    useless = [each for each in launched if each.engine_id in idle and _is_new(each, section)]
    looking = away if kernel_seconds <= section.start_seconds else coming
    starting = Counter((each.host, each.shape) for each in (*looking, *useless) if not each.attempt_key)
    keys = {each.attempt_key for each in launched}
    starts = [each for each in own if each[1].attempt_key not in keys]
    for key, count in needed.items():
        starts += [(begun[key], Order(host=key[0], shape=shapes[key[1]]))] * (count - starting[key])
    starts.sort(key=lambda each: (each[1].kind in refused, each[0]))
    wished = list(_attachable((start for _, start in starts), launched))
    room = max(0, section.max_instances - len({*heard, *(each.engine_id for each in launched)}))
    full = [_FULL.format(section.max_instances)] if len(wished) > room else []
    return Plan(
        starts=wished[:room],
        surplus=list(_surplus(coming, needed, {each.attempt_key for each in wanted})),
        stuck=list(_stuck(away, known, kernel_seconds, section.start_seconds)),
        unmet=[*unfit, *full],
    )


def _demand(
    section: LauncherSection, wanted: Sequence[WantedView], shapes: Collection[LauncherShape]
) -> tuple[Counter[_Key], Mapping[_Key, datetime], Sequence[tuple[datetime, Order]], Sequence[str]]:
    """Return how many instances are needed, and since when; the starts for one attempt; and what no shape meets."""
    needed: Counter[_Key] = Counter()
    begun: dict[_Key, datetime] = {}
    own: list[tuple[datetime, Order]] = []
    unfit: list[str] = []
    for demand in wanted:
        if demand.host not in section.hosts:
            continue
        shape, since = _fitting(demand.needs, shapes), demand.since or _LONG_AGO
        if demand.image and section.engine not in ENGINES_WITH_IMAGES:
            unfit.append(f"a step of host {demand.host!r} wants image {demand.image!r}: {section.engine} has no images")
        elif shape is None:
            unfit.append(f"no shape of [launcher] has what a step of host {demand.host!r} needs: {_text(demand.needs)}")
        elif demand.attempt_key:
            named = Order(host=demand.host, shape=shape, attempt_key=demand.attempt_key, image=demand.image)
            own.append((since, named))
        else:
            key = demand.host, shape.name
            needed[key] += math.ceil(demand.attempts / _at_once(demand.needs, shape))
            begun[key] = min(since, begun.get(key, since))
    return needed, begun, own, unfit


def _attachable(starts: Iterable[Order], launched: Sequence[Launched]) -> Iterator[Order]:
    """Yield the starts of instances that the kernel lets attach: a host may have so many, whatever the settings say."""
    of_host = Counter(each.host for each in launched)
    for start in starts:
        if of_host[start.host] < INSTANCES_OF_HOST:
            of_host[start.host] += 1
            yield start


def _is_new(each: Launched, section: LauncherSection) -> bool:
    """Return whether an instance is like one that would be started now; an older one may lack time, or code."""
    return (each.running_seconds or 0.0) <= section.start_seconds


def served_before(each: Launched, known: Collection[str], kernel_seconds: float) -> bool:
    """Return whether an instance has served, or may have served an earlier kernel."""
    running = each.running_seconds
    return running is not None and (each.engine_id in known or running > kernel_seconds)


def _stuck(
    away: Sequence[Launched], known: Collection[str], kernel_seconds: float, start_seconds: float
) -> Iterator[str]:
    """Yield the ids of instances that have run for long enough to attach, and have not."""
    for each in away:
        if each.engine_id not in known and min(each.running_seconds or 0.0, kernel_seconds) > start_seconds:
            yield each.engine_id


def _surplus(coming: Sequence[Launched], needed: Counter[_Key], attempts: Collection[str]) -> Iterator[str]:
    """Yield the ids of instances beyond the demand that have no machine yet; the last one submitted first."""
    left = Counter(needed)
    left.subtract((each.host, each.shape) for each in coming if not each.attempt_key)
    for each in reversed(coming):
        if each.running_seconds is not None:
            continue
        key = each.host, each.shape
        if each.attempt_key:
            if each.attempt_key not in attempts:
                yield each.engine_id
        elif left[key] < 0:
            left[key] += 1
            yield each.engine_id


def _fitting(needs: ResourcesView, shapes: Collection[LauncherShape]) -> LauncherShape | None:
    asked = Resources(cpu=needs.cpu, memory_mb=needs.memory_mb, gpus=needs.gpus, labels=dict(needs.labels))
    return next((shape for shape in shapes if not lacking(asked, shape.resources)), None)


def _at_once(needs: ResourcesView, shape: LauncherShape) -> int:
    """Return how many attempts with such needs one instance runs at once."""
    asked = {name: getattr(needs, name) for name in MOST}
    counts = [int((getattr(shape, name) + 1e-6) / amount) for name, amount in asked.items() if amount]
    return max(1, min([shape.steps, *counts]))


def _text(needs: ResourcesView) -> str:
    amounts = [f"{name} = {getattr(needs, name):g}" for name in MOST if getattr(needs, name)]
    return ", ".join([*amounts, *(f"label {name} = {value!r}" for name, value in needs.labels.items())])
