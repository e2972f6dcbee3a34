"""Choose the due fires to run, and those to record only."""

from __future__ import annotations

from collections.abc import Sequence

from nomaflow_api.time_spans import time_span
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import Fold
from nomaflow_project.jobs.definitions import Misfire

ON_TIME_SECONDS = 5.0
"""Seconds within which a running kernel's fire is on time, whatever the misfire policy."""

_ALL_LIMIT = 100


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
    on_time_us = -1 if cause.code == "kernel_down" else int(ON_TIME_SECONDS * 1_000_000)
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
