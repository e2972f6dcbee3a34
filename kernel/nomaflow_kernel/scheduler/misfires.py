"""Fires that are due: which of them run, and which are only recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import Fold
from nomaflow_project.jobs.definitions import Misfire

__all__ = ["ON_TIME_SECONDS", "Due", "sort_out"]

ON_TIME_SECONDS = 5.0
"""A fire that a running kernel comes to within this time is on time, whatever the misfire policy says."""

_ALL_LIMIT = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """What becomes of the due fires of one schedule.

    :param run_us: instants to run, earliest first
    :param unrun: (fires, reason) to record, at most one of each reason
    """

    run_us: tuple[int, ...] = ()
    unrun: tuple[tuple[Fold, Reason], ...] = ()


def sort_out(
    fires_us: Sequence[int], *, older: Fold | None, now_us: int, misfire: Misfire, window_seconds: float, cause: Reason
) -> Due:
    """Decide about the fires of one schedule that are due.

    :param fires_us: due instants, earliest first; the newest ones where there are very many
    :param older: the due fires before those, which never run; None where there are none
    :param cause: why fires are late at all, for those that the policy leaves out
    """
    window_us = int(window_seconds * 1_000_000)
    # What fell into a downtime was late from the start, however short it was.
    on_time_us = -1 if cause.code == "kernel_down" else int(ON_TIME_SECONDS * 1_000_000)
    too_old = [at for at in fires_us if now_us - at > max(window_us, on_time_us)]
    late = [at for at in fires_us[len(too_old) :] if now_us - at > on_time_us]
    on_time = list(fires_us[len(too_old) + len(late) :])
    chosen: list[int] = []
    if misfire is Misfire.ALL:
        chosen = late[-_ALL_LIMIT:]
    elif misfire is Misfire.LATEST and not on_time:
        chosen = late[-1:]
    left_out = late[: len(late) - len(chosen)] if chosen else late
    # Where even the newest fires reach back less far than the window, the older ones are late, and not too old.
    unrun = [
        (fold, reason)
        for fold, reason in (
            (_fold(older if too_old else None, too_old), _too_old_reason(cause, window_seconds)),
            (_fold(None if too_old else older, left_out), cause),
        )
        if fold is not None
    ]
    return Due(run_us=(*chosen, *on_time), unrun=tuple(unrun))


def _fold(older: Fold | None, fires_us: Sequence[int]) -> Fold | None:
    """Return what stands for some fires and those before them; None for none."""
    if not fires_us:
        return older
    if older is None:
        return Fold(first_us=fires_us[0], last_us=fires_us[-1], count=len(fires_us))
    return Fold(first_us=older.first_us, last_us=fires_us[-1], count=older.count + len(fires_us))


def _too_old_reason(cause: Reason, window_seconds: float) -> Reason:
    return Reason("misfire_window", f"{cause.message}; older than the misfire window of {window_seconds:g} s")
