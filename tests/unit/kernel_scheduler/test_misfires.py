"""Which late fires run."""

from __future__ import annotations

import pytest

from nomaflow_kernel.domain.jobs import Misfire
from nomaflow_kernel.domain.reasons import Reason
from nomaflow_kernel.scheduler.misfires import sort_out

MINUTE = 60_000_000
NOW = 1_000 * MINUTE
CAUSE = Reason("kernel_down", "the kernel did not run")


def fires(*minutes_ago: float) -> list[int]:
    """Return instants that many minutes before now, earliest first."""
    return [NOW - int(minutes * MINUTE) for minutes in minutes_ago]


@pytest.mark.parametrize(
    ("misfire", "due", "run", "unrun"),
    [
        (Misfire.LATEST, fires(0), 1, []),
        (Misfire.SKIP, fires(0.1), 1, []),
        (Misfire.LATEST, fires(3, 2, 1), 1, [("kernel_down", 2)]),
        (Misfire.LATEST, fires(3, 2, 0), 1, [("kernel_down", 2)]),
        (Misfire.SKIP, fires(3, 2, 1), 0, [("kernel_down", 3)]),
        (Misfire.SKIP, fires(3, 0.1), 1, [("kernel_down", 1)]),
        (Misfire.ALL, fires(3, 2, 1, 0), 4, []),
        (Misfire.ALL, fires(*range(250, 0, -1)), 60, [("misfire_window", 190)]),
        (Misfire.LATEST, fires(120, 90), 0, [("misfire_window", 2)]),
    ],
)
def test_policy(misfire: Misfire, due: list[int], run: int, unrun: list[tuple[str, int]]) -> None:
    """Each policy runs the fires it names, inside the window, and records the others with their count."""
    result = sort_out(due, skipped_before=0, now_us=NOW, misfire=misfire, window_seconds=3600.0, cause=CAUSE)
    assert len(result.run_us) == run
    assert [(reason.code, fold.count) for fold, reason in result.unrun] == unrun
    assert list(result.run_us) == sorted(result.run_us)


def test_all_is_bounded_to_the_last_hundred() -> None:
    """With a window that takes all, at most the last 100 late fires run and the others are one row."""
    due = fires(*range(250, 0, -1))
    result = sort_out(due, skipped_before=0, now_us=NOW, misfire=Misfire.ALL, window_seconds=1e6, cause=CAUSE)
    assert list(result.run_us) == due[-100:]
    fold, reason = result.unrun[0]
    assert (fold.first_us, fold.last_us, fold.count, reason.code) == (due[0], due[149], 150, "kernel_down")


def test_very_old_fires_are_counted_too() -> None:
    """Fires that were not even looked at one by one are part of the count."""
    result = sort_out(
        fires(120), skipped_before=5000, now_us=NOW, misfire=Misfire.LATEST, window_seconds=60, cause=CAUSE
    )
    assert result.unrun[0][0].count == 5001
