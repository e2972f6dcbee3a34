"""Fires that are due: which of them run, and which are only recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nomaflow_kernel.domain.jobs import Misfire
from nomaflow_kernel.domain.reasons import Reason
from nomaflow_kernel.domain.records import Fold

__all__ = ["ON_TIME_SECONDS", "Due", "sort_out"]

ON_TIME_SECONDS = 30.0
"""A fire that is run within this time of its instant is on time, whatever the misfire policy says."""

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
    fires_us: Sequence[int], *, skipped_before: int, now_us: int, misfire: Misfire, window_seconds: float, cause: Reason
) -> Due:
    """Decide about the fires of one schedule that are due.

    :param fires_us: due instants, earliest first; the newest ones where there are very many
    :param skipped_before: how many fires before ``fires_us`` were left out of it, being far too old
    :param cause: why fires are late at all, for those that the policy leaves out
    """
    window_us = int(window_seconds * 1_000_000)
    on_time_us = int(ON_TIME_SECONDS * 1_000_000)
    too_old = [at for at in fires_us if now_us - at > max(window_us, on_time_us)]
    late = [at for at in fires_us[len(too_old) :] if now_us - at > on_time_us]
    on_time = list(fires_us[len(too_old) + len(late) :])
    chosen: list[int] = []
    if misfire is Misfire.ALL:
        chosen = late[-_ALL_LIMIT:]
    elif misfire is Misfire.LATEST and not on_time:
        chosen = late[-1:]
    left_out = late[: len(late) - len(chosen)] if chosen else late
    unrun = []
    if too_old:
        fold = Fold(first_us=too_old[0], last_us=too_old[-1], count=len(too_old) + skipped_before)
        unrun.append((fold, _too_old_reason(cause, window_seconds)))
    if left_out:
        unrun.append((Fold(first_us=left_out[0], last_us=left_out[-1], count=len(left_out)), cause))
    return Due(run_us=(*chosen, *on_time), unrun=tuple(unrun))


def _too_old_reason(cause: Reason, window_seconds: float) -> Reason:
    if cause.code == "paused":
        return cause
    return Reason("misfire_window", f"{cause.message}; older than the misfire window of {window_seconds:g} s")
