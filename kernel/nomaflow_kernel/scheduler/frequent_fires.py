"""Collisions of schedules with more than 48 fires a day: fires and runs as bits, one a second. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from math import ceil

from msgspec import Struct

from nomaflow_kernel.domain.clock import to_us
from nomaflow_kernel.scheduler.fire_plan import LOOK_BACK, MOST_NAMED, FirePlan, Owner

_WINDOW = timedelta(days=1)
_SECOND_US = 1_000_000
_MOST_JOBS = 1000
"""The most schedules, and jobs that are listed fire by fire, that are looked at: each takes up to 27 kB meanwhile."""


class _Span(Struct, frozen=True, kw_only=True):
    """The seconds of the range in which a schedule fires, and those in which its runs usually go on."""

    owner: Owner
    fires: int
    running: int

    def meets(self, other: _Span) -> bool:
        """Return True if one fires while another job's usual run goes on."""
        if self.owner.job_id == other.owner.job_id:
            return False
        return bool(self.fires & other.running or self.running & other.fires)


@dataclass(kw_only=True, slots=True)
class Overlaps:
    """The collisions of a plan's first 1,000 frequent schedules in the first 24 hours of its range.

    :param seconds: job id → how long a run of it usually takes
    :param paused: True for an owner that a pause keeps from starting at an instant, in microseconds
    :ivar found: the other jobs of the host, at most ten, of each frequent schedule that collides
    """

    plan: FirePlan
    seconds: Mapping[str, float | None]
    paused: Callable[[Owner, int], bool]
    found: dict[Owner, list[str]] = field(default_factory=dict)

    def work(self) -> Iterator[None]:
        """Look, in small steps."""
        often: dict[str, list[_Span]] = {}
        for each in self._frequent():
            often.setdefault(each.owner.host, []).append(each)
            yield
        everyone = {host: list(spans) for host, spans in often.items()}
        for each in self._listed(often):
            everyone[each.owner.host].append(each)
            yield
        for host, spans in often.items():
            once = twice = 0
            for each in everyone[host]:
                twice |= once & each.running
                once |= each.running
                yield
            for span in spans:
                if span.running & twice and (others := _others(span, everyone[host])):
                    self.found[span.owner] = others
                yield

    def _frequent(self) -> Iterator[_Span]:
        begin, end = self._window()
        for each in self.plan.frequent[:_MOST_JOBS]:
            if not self.paused(each.owner, to_us(each.next)):
                yield self._span(each.owner, each.bits(begin, end))

    def _listed(self, hosts: Container[str]) -> Iterator[_Span]:
        """Yield the spans of the jobs that are listed fire by fire."""
        begin, end = map(to_us, self._window())
        fires: dict[tuple[str, str], int] = {}
        for fire in chain(self.plan.earlier, self.plan.fires):
            owner, at_us = fire.owner, fire.moment.at_us
            if owner.host in hosts and at_us < end and not self.paused(owner, at_us):
                key = owner.host, owner.job_id
                if key not in fires and len(fires) == _MOST_JOBS:
                    continue
                fires[key] = fires.get(key, 0) | 1 << (at_us - begin) // _SECOND_US
        for (host, job_id), bits in fires.items():
            yield self._span(Owner(job_id=job_id, host=host, preset=""), bits)

    def _window(self) -> tuple[datetime, datetime]:
        """Return the time to look at, from a whole second on, with the hours before the range, whose runs may go on."""
        begin = self.plan.begin + timedelta(microseconds=-self.plan.begin.microsecond % _SECOND_US)
        return begin - LOOK_BACK, min(self.plan.end, begin + _WINDOW)

    def _span(self, owner: Owner, fires: int) -> _Span:
        usual = min(self.seconds.get(owner.job_id) or 0, (LOOK_BACK + _WINDOW).total_seconds())
        running, done, length = fires, 1, max(ceil(usual), 1)
        while done < length:
            step = min(done, length - done)
            running |= running << step
            done += step
        before = LOOK_BACK // timedelta(seconds=1)
        return _Span(owner=owner, fires=fires >> before << before, running=running)


def _others(span: _Span, everyone: Iterable[_Span]) -> list[str]:
    others: dict[str, None] = {}
    for each in everyone:
        if each.owner.job_id not in others and span.meets(each):
            others[each.owner.job_id] = None
            if len(others) == MOST_NAMED:
                break
    return list(others)
