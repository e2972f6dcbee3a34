"""Decisions about the due fires of one schedule: run, held up by a pause, or too late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import groupby

from nomaflow_api.time_spans import time_span
from nomaflow_kernel.domain.clock import from_us
from nomaflow_kernel.engine.commands import TriggerCommand, UnrunCommand
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import Fold, PauseRecord, RunRequest, TriggerKind
from nomaflow_kernel.scheduler.schedules import KnownSchedule
from nomaflow_project.jobs.definitions import Misfire

_MOST_FIRES = 2_000
"""The number of newest fires checked one by one, after a very long downtime of a schedule."""
_ON_TIME_SECONDS = 5.0
"""Seconds within which a running kernel's fire is on time, whatever the misfire policy."""
_ALL_LIMIT = 100

Decided = tuple[list[TriggerCommand], list[UnrunCommand]]
"""Fires to run, and fires to record."""


async def decide(
    schedule: KnownSchedule,
    first_us: int,
    *,
    now_us: int,
    cause: Reason,
    pause_at: Callable[[int], PauseRecord | None],
    taken: Callable[[Sequence[str]], Awaitable[Collection[str]]] | None,
) -> Decided:
    """Decide about every fire from ``first_us`` until now.

    :param cause: the cause of late fires
    :param pause_at: returns the pause that applied to the job at an instant
    :param taken: returns those slots of which a run exists; None if there can be none. A single fire is not asked about
    """
    older, fires = await _due(schedule, first_us, now_us)
    if taken is not None and len(fires) > 1:
        known = await taken([_slot(schedule, at_us) for at_us in fires])
        fires = [at_us for at_us in fires if _slot(schedule, at_us) not in known]
    unrun: list[UnrunCommand] = []
    free: list[int] = []
    for pause, grouped in groupby(fires, key=pause_at):
        some = list(grouped)
        if pause is None:
            free += some
        else:
            fold = Fold(first_us=some[0], last_us=some[-1], count=len(some))
            unrun.append(_unrun(schedule, fold, _paused(pause)))
    run_us, late = sort_out(
        free,
        older=older,
        now_us=now_us,
        misfire=schedule.definition.misfire,
        window_seconds=schedule.definition.misfire_window_seconds,
        cause=cause,
    )
    unrun += [_unrun(schedule, fold, reason) for fold, reason in late]
    unrun.sort(key=lambda each: each.fold.first_us)
    return [_trigger(schedule, at_us) for at_us in run_us], unrun


async def _due(schedule: KnownSchedule, first_us: int, now_us: int) -> tuple[Fold | None, Sequence[int]]:
    """Return the newest due fires one by one, and the fires before them, if any, as one fold."""
    newest: list[int] = []
    older, last_older_us = 0, first_us
    for day_us, bits in schedule.fires_by_day(first_us, now_us):
        digits = f"{bits:b}"
        at = digits.find("1")
        while at >= 0 and len(newest) < _MOST_FIRES:
            newest.append(day_us + (len(digits) - 1 - at) * 1_000_000)
            at = digits.find("1", at + 1)
        if at >= 0:
            if not older:
                last_older_us = day_us + (len(digits) - 1 - at) * 1_000_000
            older += digits.count("1", at)
        await asyncio.sleep(0)  # a long downtime is counted in turns, to give other tasks the loop
    if len(newest) < _MOST_FIRES:
        newest.append(first_us)
    else:
        older += 1
    return Fold(first_us=first_us, last_us=last_older_us, count=older) if older else None, newest[::-1]


def sort_out(
    fires_us: Sequence[int], *, older: Fold | None, now_us: int, misfire: Misfire, window_seconds: float, cause: Reason
) -> tuple[list[int], list[tuple[Fold, Reason]]]:
    """Return the instants of one schedule to run, earliest first, and the fires to record, one entry for each reason.

    :param fires_us: due instants, earliest first; only the newest ones if there are very many
    :param older: the due fires before those, which never run; None if there are none
    :param cause: the reason for late fires that the policy leaves out
    """
    window_us = int(window_seconds * 1_000_000)
    # A fire during a downtime was late from the start, however short the downtime.
    on_time_us = -1 if cause.code == "kernel_down" else int(_ON_TIME_SECONDS * 1_000_000)
    too_old = [at for at in fires_us if now_us - at > max(window_us, on_time_us)]
    late = [at for at in fires_us[len(too_old) :] if now_us - at > on_time_us]
    on_time = list(fires_us[len(too_old) + len(late) :])
    chosen: list[int] = []
    if misfire is Misfire.ALL:
        chosen = late[-_ALL_LIMIT:]
    elif misfire is Misfire.LATEST and not on_time:
        chosen = late[-1:]
    left_out = late[: len(late) - len(chosen)]
    # If even the newest fires reach back less far than the window, the older ones are late, but not too old.
    window = Reason("misfire_window", f"{cause.message}; older than the misfire window of {time_span(window_seconds)}")
    unrun = (
        (_fold(older if too_old else None, too_old), window),
        (_fold(None if too_old else older, left_out), cause),
    )
    return [*chosen, *on_time], [(fold, reason) for fold, reason in unrun if fold is not None]


def _fold(older: Fold | None, fires_us: Sequence[int]) -> Fold | None:
    """Return the fold of some fires and those before them; None if there are none."""
    if not fires_us:
        return older
    if older is None:
        return Fold(first_us=fires_us[0], last_us=fires_us[-1], count=len(fires_us))
    return Fold(first_us=older.first_us, last_us=fires_us[-1], count=older.count + len(fires_us))


def _trigger(schedule: KnownSchedule, at_us: int) -> TriggerCommand:
    job_id, preset = schedule.key
    return TriggerCommand(
        job_id=job_id,
        kind=TriggerKind.CRON,
        request=RunRequest(preset=preset),
        by=schedule.schedule.expression,
        at_us=at_us,
        slot=_slot(schedule, at_us),
    )


def _slot(schedule: KnownSchedule, at_us: int) -> str:
    """Return the name of a fire, which is unique in the store."""
    job_id, preset = schedule.key
    return f"{job_id}/{preset}/{from_us(at_us):%Y-%m-%dT%H:%M:%SZ}"


def _paused(pause: PauseRecord) -> Reason:
    what = "everything was" if pause.scope == "all" else f"{pause.scope} {pause.name!r} was"
    return Reason("paused", f"{what} paused{f': {pause.why}' if pause.why else ''}")


def _unrun(schedule: KnownSchedule, fold: Fold, reason: Reason) -> UnrunCommand:
    job_id, preset = schedule.key
    return UnrunCommand(job_id=job_id, preset=preset, fold=fold, reason=reason)
