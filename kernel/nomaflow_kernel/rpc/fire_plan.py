"""The coming fires of many schedules, in order of time, and what they collide with. No I/O.

Schedules with the same expression and zone are planned as one, so that the work depends on the fires that are listed
and not on the number of jobs.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from itertools import chain, compress, groupby, islice
from typing import cast

from nomaflow_project.cron import CronError, CronExpression, zone
from nomaflow_project.cron.counting import count_fires, dst_of_fire, fires_a_day

__all__ = ["FirePlan", "Frequent", "KnownFires", "Owner", "PlannedFire", "collisions"]

_FREQUENT = 48
_MOST_NAMED = 10
_LOOK_BACK = timedelta(hours=6)
"""Runs that began so long before the range may still go on in it."""
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The job, or a preset of it, that has a schedule."""

    job_id: str
    host: str
    preset: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedFire:
    """One coming fire."""

    at: datetime
    owner: Owner
    expression: CronExpression
    timezone: str

    @property
    def local(self) -> str:
        """The wall clock of the schedule's zone at that instant, with its offset."""
        return self.at.astimezone(zone(self.timezone)).isoformat()

    @property
    def daylight_saving(self) -> str:
        """``gap`` or ``repeated`` on the two nights of a year, else empty."""
        return dst_of_fire(self.expression, self.at, zone(self.timezone))


@dataclass(frozen=True, kw_only=True, slots=True)
class Frequent:
    """A schedule with more than 48 fires a day."""

    owner: Owner
    expression: str
    timezone: str
    fires: int
    next: datetime


class KnownFires:
    """The fires that were worked out lately: a page of a schedule asks for nearly the same ones again and again.

    :param most: fires that are kept at most
    """

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._after: dict[tuple[str, str], tuple[datetime, datetime]] = {}
        self._following: dict[tuple[str, str, datetime], datetime] = {}

    def first_after(self, at: datetime, expression: CronExpression, timezone: str) -> datetime:
        """Return the first fire later than any instant.

        :raises CronError: if there is none before the calendar's end
        """
        key = (expression.text, timezone)
        asked, found = self._after.get(key, (at, at))
        if not asked <= at < found:
            found = expression.next_after(at, zone(timezone))
            self._after[key] = (at, found)
            self._bound()
        return found

    def following(self, fire: datetime, expression: CronExpression, timezone: str) -> datetime:
        """Return the fire after another.

        :raises CronError: if there is none before the calendar's end
        """
        key = (expression.text, timezone, fire)
        found = self._following.get(key)
        if found is None:
            found = self._following[key] = expression.next_after(fire, zone(timezone))
            self._bound()
        return found

    def _bound(self) -> None:
        if len(self._after) + len(self._following) > self._most:
            self._after.clear()
            self._following.clear()


@dataclass(kw_only=True, slots=True)
class FirePlan:
    """The fires from ``begin`` on, before ``end``; at most ``limit`` are listed.

    Call :meth:`add` for every schedule, then take the steps of :meth:`work`, between which other tasks may have a turn.

    :param known: the fires that other plans have worked out
    :ivar fires: in order of time
    :ivar earlier: fires of the hours before the range, whose runs may go on in it
    :ivar listed_until: the list is whole up to then
    """

    begin: datetime
    end: datetime
    limit: int
    known: KnownFires = field(default_factory=KnownFires)
    fires: list[PlannedFire] = field(default_factory=list)
    earlier: list[PlannedFire] = field(default_factory=list)
    frequent: list[Frequent] = field(default_factory=list)
    listed_until: datetime = field(init=False)
    _owners: dict[tuple[str, str], list[Owner]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.listed_until = self.end

    def add(self, owner: Owner, expression: str, timezone: str) -> None:
        """Add a schedule."""
        self._owners.setdefault((expression, timezone), []).append(owner)

    def work(self) -> Iterator[None]:
        """Plan, in small steps."""
        heap: list[tuple[datetime, int, CronExpression, str, list[Owner]]] = []
        for number, ((text, timezone), owners) in enumerate(self._owners.items()):
            yield
            try:
                expression, tz = CronExpression.parse(text), cast("tzinfo", zone(timezone))
                if fires_a_day(expression) > _FREQUENT:
                    self._add_frequent(expression, text, timezone, tz, owners)
                    continue
                first = self.known.first_after(self.begin - _LOOK_BACK - _TICK, expression, timezone)
            except (CronError, OverflowError):
                continue  # no further fire before the calendar's end
            heap.append((first, number, expression, timezone, owners))
        heapq.heapify(heap)
        while heap and heap[0][0] < self.end:
            yield
            at, number, expression, timezone, owners = heapq.heappop(heap)
            if not self._take(at, expression, timezone, owners):
                return
            try:
                following = self.known.following(at, expression, timezone)
            except CronError:
                continue
            heapq.heappush(heap, (following, number, expression, timezone, owners))

    def _take(self, at: datetime, expression: CronExpression, timezone: str, owners: Sequence[Owner]) -> bool:
        """List the fires of an instant; return False if there is no room for all of them."""
        listed = self.fires if at >= self.begin else self.earlier
        room = self.limit - len(listed)
        listed += [
            PlannedFire(at=at, owner=owner, expression=expression, timezone=timezone)
            for owner in owners[: max(room, 0)]
        ]
        if room >= len(owners) or listed is self.earlier:
            return True
        self.listed_until = at
        return False

    def _add_frequent(
        self, expression: CronExpression, text: str, timezone: str, tz: tzinfo, owners: Sequence[Owner]
    ) -> None:
        first = expression.next_after(self.begin - _TICK, tz)
        if first >= self.end:
            return
        fires = count_fires(expression, self.begin, self.end, tz)
        self.frequent += [
            Frequent(owner=owner, expression=text, timezone=timezone, fires=fires, next=first) for owner in owners
        ]


def collisions(
    plan: FirePlan, seconds: Mapping[str, float | None], *, paused: Callable[[PlannedFire], bool]
) -> Iterator[tuple[PlannedFire, int, list[str]]]:
    """Yield each listed fire with the number of fires in its minute, and the jobs of its host that run then.

    :param seconds: job id → how long a run of it usually takes
    :param paused: True for a fire that starts no run, and so collides with none
    """
    in_minute = Counter(fire.at.replace(second=0, microsecond=0) for fire in plan.fires)
    running: dict[str, dict[str, datetime]] = {}
    ends: list[tuple[datetime, str, str]] = []
    in_order = sorted(chain(plan.earlier, plan.fires), key=lambda fire: (fire.at, fire.owner.job_id, fire.owner.preset))
    for at, together in groupby(in_order, key=lambda fire: fire.at):
        while ends and ends[0][0] <= at:
            end, host, job_id = heapq.heappop(ends)
            if running[host].get(job_id) == end:
                del running[host][job_id]
        fires = list(together)
        held = [paused(fire) for fire in fires]
        for fire in compress(fires, (not each for each in held)):
            owner = fire.owner
            end = at + timedelta(seconds=max(seconds.get(owner.job_id) or 0.0, 0.000_001))
            of_host = running.setdefault(owner.host, {})
            if end > of_host.get(owner.job_id, at):
                of_host[owner.job_id] = end
                heapq.heappush(ends, (end, owner.host, owner.job_id))
        if at >= plan.begin:
            for fire, starts_none in zip(fires, held, strict=True):
                others = [] if starts_none else _others(running[fire.owner.host], fire.owner.job_id)
                yield fire, in_minute[at.replace(second=0, microsecond=0)], others


def _others(running: Iterable[str], job_id: str) -> list[str]:
    return list(islice((each for each in running if each != job_id), _MOST_NAMED))
