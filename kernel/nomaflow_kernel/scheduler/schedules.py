"""The schedules of the catalogue, and their fires."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice

from msgspec import Struct

from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.domain.clock import from_us, to_us
from nomaflow_kernel.history.transitions import SetNextFire
from nomaflow_project.cron import CronError, CronExpression, zone
from nomaflow_project.cron.fire_counts import fire_bits
from nomaflow_project.cron.zones import zone_data_version
from nomaflow_project.jobs.definitions import JobDefinition, Schedule

_LOG = logging.getLogger(__name__)
_SECOND_US = 1_000_000
_DAY_US = 86_400 * _SECOND_US


class KnownSchedule(Struct, frozen=True, kw_only=True):
    """One cron schedule of a job or of one of its presets.

    :param host: the host that runs the job
    :param fingerprint: identifies expression, zone and zone data
    """

    host: str
    definition: JobDefinition
    schedule: Schedule
    fingerprint: str

    @property
    def key(self) -> tuple[str, str]:
        """The key of the schedule: job and preset."""
        return self.definition.id, self.schedule.preset

    def keeps(self, next_fire_us: int | None) -> SetNextFire:
        """Return the transition that stores its next fire."""
        job_id, preset = self.key
        return SetNextFire(job_id=job_id, preset=preset, next_fire_us=next_fire_us, fingerprint=self.fingerprint)

    def next_after_us(self, after_us: int) -> int | None:
        """Return the first fire after an instant, or None if there is no further one."""
        try:
            expression, timezone = CronExpression.parse(self.schedule.expression), zone(self.schedule.timezone)
            return to_us(expression.next_after(from_us(after_us), timezone))
        except CronError:
            return None

    def fires_by_day(self, first_us: int, until_us: int) -> Iterator[tuple[int, int]]:
        """Yield the fires after an instant, up to and including another, a day at a time, newest first.

        :returns: when the day begins, and its fires as the bits of a number: bit ``n`` is second ``n``
        """
        try:
            expression, timezone = CronExpression.parse(self.schedule.expression), zone(self.schedule.timezone)
        except CronError:
            return  # a stored fire in a zone that this machine no longer has
        begin_us, end_us = (us // _SECOND_US * _SECOND_US + _SECOND_US for us in (first_us, until_us))
        while end_us > begin_us:
            day_us = max(begin_us, end_us - _DAY_US)
            yield day_us, fire_bits(expression, from_us(day_us), from_us(end_us), timezone)
            end_us = day_us


def schedules_of(jobs: Iterable[Job]) -> Iterator[KnownSchedule]:
    """Yield the schedules of the jobs that can run."""
    for job in jobs:
        if job.runnable and job.definition is not None:
            for each in job.definition.schedules():
                # Changes whenever the next fires may change.
                fingerprint = f"{each.expression}|{each.timezone}|{zone_data_version()}"
                yield KnownSchedule(host=job.host, definition=job.definition, schedule=each, fingerprint=fingerprint)


def same_schedule(one: str, other: str) -> bool:
    """Return whether two fingerprints differ in the zone data at most."""
    return one.rpartition("|")[0] == other.rpartition("|")[0]


def next_fires(definition: JobDefinition, *, after_us: int, limit: int) -> list[tuple[datetime, str]]:
    """Return the next fires, earliest first, each with its preset (empty for the job's own schedule)."""
    after = from_us(after_us)
    merged = heapq.merge(*(_fires(schedule.expression, schedule.timezone, schedule.preset, after)
                           for schedule in definition.schedules()))  # fmt: skip
    return list(islice(merged, limit))


def _fires(expression: str, timezone: str, preset: str, after: datetime) -> Iterator[tuple[datetime, str]]:
    try:
        for at in CronExpression.parse(expression).iter_after(after, zone(timezone)):
            yield at, preset
    except CronError as error:  # an older version's snapshot, or a zone that the machine no longer has
        _LOG.debug("no next fire of %r: %s", expression, error)
