"""Pages and figures over many runs, events and fires, as a client sees them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from nomaflow.client.values.events import EventView
from nomaflow.client.values.runs import RunView
from nomaflow.client.values.shapes import HIDDEN, NullableCount, NullableText, Shaped
from nomaflow_api.field_marks import REMEMBERED

__all__ = [
    "EventPageView",
    "FirePageView",
    "FrequentScheduleView",
    "JobStatsView",
    "ListedFireView",
    "RecentRunView",
    "RunCountView",
    "RunPageView",
]


class RunPageView(Shaped, frozen=True, kw_only=True):
    """One page of runs.

    :param next_page_token: continues the list; empty on the last page
    :param scanned_until: how far the page has looked, if a filter without an index left it short; else None
    """

    runs: Annotated[tuple[RunView, ...], REMEMBERED] = ()
    next_page_token: NullableText = ""
    scanned_until: datetime | None = None


class RunCountView(Shaped, frozen=True, kw_only=True):
    """The number of runs of one group in one state.

    :param group: a job, a host, a tag, or a trigger kind in lower case; empty if states are counted
    :param runs: the number of rows
    :param fires: the number of fires that they stand for; larger if rows stand for many
    :param grouping: ``JOB``, ``HOST``, ``TRIGGER`` or ``TAG`` if runs are also counted by it; else empty
    """

    group: NullableText = ""
    state: str
    runs: int
    fires: int
    rows_affected: int
    grouping: Annotated[str, HIDDEN] = ""


class RecentRunView(Shaped, frozen=True, kw_only=True):
    """The main facts of one run."""

    run_id: str
    state: str
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    rows_affected: int | None = None

    @property
    def seconds(self) -> float | None:
        """The time from start to finish in seconds; None if it has not started or not finished."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


class JobStatsView(Shaped, frozen=True, kw_only=True):
    """The newest runs of a job, newest first, and what is usual for them. A figure without a run is None.

    :param median_seconds: of the runs that succeeded, from start to finish
    :param p95_seconds: 95 % of them took at most this
    :param median_rows: of the runs that succeeded and counted rows
    :param success_ratio: the share of SUCCEEDED among SUCCEEDED, FAILED and CANCELED
    :param median_wait_seconds: from queued to started
    """

    job_id: str
    recent: tuple[RecentRunView, ...] = ()
    median_seconds: float | None = None
    p95_seconds: float | None = None
    median_rows: int | None = None
    success_ratio: float | None = None
    median_wait_seconds: float | None = None

    def usual(self) -> dict[str, Any]:
        """Return the figures in the shape of docs/cli.md, without the job and its runs."""
        return {name: value for name, value in self.to_json().items() if name not in ("job_id", "recent")}


class EventPageView(Shaped, frozen=True, kw_only=True):
    """One page of events, newest first.

    :param next_before_seq: continues the list; 0 if there are no more
    :param pruned_through_seq: the newest event that retention has removed: older events are incomplete
    """

    events: Annotated[tuple[EventView, ...], REMEMBERED] = ()
    next_before_seq: NullableCount = 0
    pruned_through_seq: Annotated[int, HIDDEN] = 0


class ListedFireView(Shaped, frozen=True, kw_only=True):
    """One coming fire.

    :param local: the wall clock of the schedule's zone, with its offset
    :param preset: the preset whose schedule it is; empty for the job's own
    :param at_once: number of fires in the same minute, this one and those of frequent schedules included
    :param collides_with: jobs of the same host, without frequent schedules, whose usual run covers the instant
    :param expected_seconds: the median of the job's last runs; None if it never succeeded
    :param daylight_saving: ``gap`` or ``repeated`` on the two nights of a year; else empty
    """

    at: datetime | None
    local: str
    timezone: str
    job_id: str
    preset: NullableText = ""
    at_once: int = 1
    collides_with: tuple[str, ...] = ()
    expected_seconds: float | None = None
    paused: bool = False
    daylight_saving: NullableText = ""


class FrequentScheduleView(Shaped, frozen=True, kw_only=True):
    """A schedule with more than 48 fires a day, which are not listed one by one.

    :param fires: number of fires in the range
    :param next: the first of them
    :param collides_with: jobs of the same host that usually run at one of its fires, or fire during one of its runs, in
        the first 24 hours of the range
    """

    job_id: str
    preset: NullableText = ""
    schedule: str
    timezone: str
    fires: int = 0
    next: datetime | None = None
    expected_seconds: float | None = None
    paused: bool = False
    collides_with: tuple[str, ...] = ()


class FirePageView(Shaped, frozen=True, kw_only=True):
    """The coming fires, in order of time.

    :param listed_until: the list is complete up to this instant
    """

    fires: Annotated[tuple[ListedFireView, ...], REMEMBERED] = ()
    frequent: tuple[FrequentScheduleView, ...] = ()
    listed_until: datetime | None = None
