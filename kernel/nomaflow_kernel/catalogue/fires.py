"""The next fires of a definition."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from nomaflow_kernel.domain.clock import from_us
from nomaflow_project.cron import CronError, CronExpression, zone
from nomaflow_project.jobs.definitions import JobDefinition

_LOG = logging.getLogger(__name__)


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
