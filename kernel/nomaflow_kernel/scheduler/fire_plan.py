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
from functools import lru_cache
from itertools import chain, compress, groupby, islice
from typing import cast

from msgspec import Struct, structs

from nomaflow_kernel.domain.clock import to_us
from nomaflow_project.cron import CronError, CronExpression, zone
from nomaflow_project.cron.fire_counts import dst_of_fire, fire_bits, is_frequent

MOST_NAMED = 10
"""The most jobs that a fire or a schedule is said to collide with."""
LOOK_BACK = timedelta(hours=6)
"""The longest time before the range at which a run that goes on in it may have begun."""
_TICK = timedelta(microseconds=1)
_MINUTE_US = 60_000_000
_ONE_MINUTE = (1 << 60) - 1
_MINUTES_A_STEP = 64


class Owner(Struct, frozen=True, kw_only=True):
    """The job, or a preset of it, that has a schedule."""

    job_id: str
    host: str
    preset: str


class Moment(Struct, frozen=True, kw_only=True):
    """An instant at which a schedule fires.

    :param at_us: the same in microseconds since the epoch
    :param local: the wall clock of the schedule's zone, with its offset
    :param daylight_saving: ``gap`` or ``repeated`` on the two nights of a year, else empty
    """

    at: datetime
    at_us: int
    local: str
    timezone: str
    daylight_saving: str


class PlannedFire(Struct, frozen=True, kw_only=True):
    """One coming fire of a job, or of a preset of it."""

    moment: Moment
    owner: Owner


class Frequent(Struct, frozen=True, kw_only=True):
    """A schedule with more than 48 fires a day."""

    owner: Owner
    expression: str
    timezone: str
    fires: int
    next: datetime

    def bits(self, begin: datetime, end: datetime) -> int:
        """Return the fires of a time span as bits, one a second; none past the calendar's end."""
        try:
            return fire_bits(CronExpression.parse(self.expression), begin, end, cast("tzinfo", zone(self.timezone)))
        except OverflowError:
            return 0


@lru_cache(maxsize=20_000)
def first_after(at: datetime, text: str, timezone: str) -> Moment:
    """Return the first fire after an instant. A page of a schedule repeatedly asks for nearly the same ones.

    :raises CronError: if there is none before the calendar's end
    """
    expression, tz = CronExpression.parse(text), zone(timezone)
    fire = expression.next_after(at, tz)
    return Moment(
        at=fire,
        at_us=to_us(fire),
        local=fire.astimezone(tz).isoformat(),
        timezone=timezone,
        daylight_saving=dst_of_fire(expression, fire, tz),
    )


@dataclass(kw_only=True, slots=True)
class FirePlan:
    """The fires from ``begin`` on, before ``end``; at most ``limit`` are listed.

    Call :meth:`add` for every schedule, then take the steps of :meth:`work`, between which other tasks may have a turn.

    :ivar fires: in order of time
    :ivar earlier: fires of the hours before the range, whose runs may go on in it
    :ivar in_minute: minute since the epoch → how many fires begin in it, frequent ones included, if one is listed
    :ivar listed_until: the list is whole up to then
    """

    begin: datetime
    end: datetime
    limit: int
    fires: list[PlannedFire] = field(default_factory=list)
    earlier: list[PlannedFire] = field(default_factory=list)
    frequent: list[Frequent] = field(default_factory=list)
    in_minute: Counter[int] = field(default_factory=Counter)
    listed_until: datetime = field(init=False)
    _owners: dict[tuple[str, str], list[Owner]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.listed_until = self.end

    def add(self, owner: Owner, expression: str, timezone: str) -> None:
        """Add a schedule."""
        self._owners.setdefault((expression, timezone), []).append(owner)

    def work(self) -> Iterator[None]:
        """Plan, in small steps."""
        heap: list[tuple[int, int, Moment, str, list[Owner]]] = []
        often: list[tuple[Frequent, list[Owner]]] = []
        earliest = self.begin - LOOK_BACK
        hour = earliest.replace(minute=0, second=0, microsecond=0)  # the same for an hour: its fires are known
        for number, ((text, timezone), owners) in enumerate(self._owners.items()):
            yield
            try:
                expression, tz = CronExpression.parse(text), cast("tzinfo", zone(timezone))
                if is_frequent(expression):
                    first_fire = expression.next_after(self.begin - _TICK, tz)
                    each = Frequent(owner=owners[0], expression=text, timezone=timezone, fires=0, next=first_fire)
                    often.append((each, owners))
                    continue
                first = first_after(hour - _TICK, text, timezone)
                while first.at < earliest:
                    first = first_after(first.at, text, timezone)
            except (CronError, OverflowError):
                continue  # no further fire before the calendar's end
            heap.append((first.at_us, number, first, text, owners))
        yield from self._list(heap)
        yield from self._count(often)

    def _list(self, heap: list[tuple[int, int, Moment, str, list[Owner]]]) -> Iterator[None]:
        """List the fires of a heap of schedules, each with its next fire, in order."""
        heapq.heapify(heap)
        end_us = to_us(self.end)
        while heap and heap[0][0] < end_us:
            yield
            _, number, moment, text, owners = heapq.heappop(heap)
            if not self._take(moment, owners):
                return
            try:
                following = first_after(moment.at, text, moment.timezone)
            except CronError:
                continue
            heapq.heappush(heap, (following.at_us, number, following, text, owners))

    def _take(self, moment: Moment, owners: Sequence[Owner]) -> bool:
        """List the fires of a moment; return False if there is no room for all of them."""
        listed = self.fires if moment.at >= self.begin else self.earlier
        room = self.limit - len(listed)
        listed += [PlannedFire(moment=moment, owner=owner) for owner in owners[: max(room, 0)]]
        if room >= len(owners) or listed is self.earlier:
            return True
        self.listed_until = moment.at
        return False

    def _count(self, often: Sequence[tuple[Frequent, list[Owner]]]) -> Iterator[None]:
        """Count the fires of frequent schedules, and those of the minutes in which one is listed."""
        self.in_minute.update(fire.moment.at_us // _MINUTE_US for fire in self.fires)
        begin = self.begin.replace(second=0, microsecond=0)
        first, passed = to_us(begin) // _MINUTE_US, (to_us(self.begin - _TICK) - to_us(begin)) // 1_000_000 + 1
        for each, owners in often:
            yield
            if not (bits := each.bits(begin, self.end) >> passed << passed):
                continue
            self.frequent += [structs.replace(each, owner=owner, fires=bits.bit_count()) for owner in owners]
            seconds = bits.to_bytes((self.end - begin) // timedelta(seconds=8) + 9, "little")
            for number, minute in enumerate(self.in_minute):
                if number % _MINUTES_A_STEP == 0:
                    yield
                at, odd = divmod((minute - first) * 60, 8)
                fires = int.from_bytes(seconds[at : at + 8], "little") >> odd & _ONE_MINUTE
                self.in_minute[minute] += len(owners) * fires.bit_count()


def collisions(
    plan: FirePlan, seconds: Mapping[str, float | None], *, paused: Callable[[PlannedFire], bool]
) -> Iterator[tuple[PlannedFire, int, list[str]]]:
    """Yield each listed fire with the number of fires in its minute, and the jobs of its host that run then.

    :param seconds: job id → how long a run of it usually takes
    :param paused: True for a fire that starts no run, and so collides with none
    """
    running: dict[str, dict[str, int]] = {}
    ends: list[tuple[int, str, str]] = []
    begin_us = to_us(plan.begin)
    in_order = sorted(
        chain(plan.earlier, plan.fires), key=lambda fire: (fire.moment.at_us, fire.owner.job_id, fire.owner.preset)
    )
    for at_us, together in groupby(in_order, key=lambda fire: fire.moment.at_us):
        while ends and ends[0][0] <= at_us:
            end_us, host, job_id = heapq.heappop(ends)
            if running[host].get(job_id) == end_us:
                del running[host][job_id]
        fires = list(together)
        held = [paused(fire) for fire in fires]
        for fire in compress(fires, (not each for each in held)):
            owner = fire.owner
            end_us = at_us + max(round((seconds.get(owner.job_id) or 0.0) * 1_000_000), 1)
            of_host = running.setdefault(owner.host, {})
            if end_us > of_host.get(owner.job_id, at_us):
                of_host[owner.job_id] = end_us
                heapq.heappush(ends, (end_us, owner.host, owner.job_id))
        if at_us >= begin_us:
            for fire, starts_none in zip(fires, held, strict=True):
                others = [] if starts_none else _others(running[fire.owner.host], fire.owner.job_id)
                yield fire, plan.in_minute[at_us // _MINUTE_US], others


def _others(running: Iterable[str], job_id: str) -> list[str]:
    return list(islice((each for each in running if each != job_id), MOST_NAMED))
