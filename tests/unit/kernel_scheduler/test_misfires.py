"""The choice of late fires that run."""

from __future__ import annotations

import pytest

from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import Fold
from nomaflow_kernel.scheduler.due_fires import sort_out
from nomaflow_project.jobs.definitions import Misfire

MINUTE = 60_000_000
NOW = 1_000 * MINUTE
CAUSE = Reason("kernel_down", "the kernel did not run")


def fires(*minutes_ago: float) -> list[int]:
    """Return instants that many minutes before now, earliest first."""
    return [NOW - int(minutes * MINUTE) for minutes in minutes_ago]


@pytest.mark.parametrize(
    ("misfire", "due", "run", "unrun"),
    [
        (Misfire.LATEST, fires(0.05), 1, []),
        (Misfire.SKIP, fires(0.05), 0, [("kernel_down", 1)]),
        (Misfire.LATEST, fires(3, 2, 1), 1, [("kernel_down", 2)]),
        (Misfire.LATEST, fires(3, 2, 0.05), 1, [("kernel_down", 2)]),
        (Misfire.SKIP, fires(3, 2, 1), 0, [("kernel_down", 3)]),
        (Misfire.ALL, fires(3, 2, 1, 0), 4, []),
        (Misfire.ALL, fires(*range(250, 0, -1)), 60, [("misfire_window", 190)]),
        (Misfire.LATEST, fires(120, 90), 0, [("misfire_window", 2)]),
    ],
)
def test_policy(misfire: Misfire, due: list[int], run: int, unrun: list[tuple[str, int]]) -> None:
    """Each policy runs the fires it names, inside the window, and records the others with their count."""
    run_us, unrun_fires = sort_out(due, older=None, now_us=NOW, misfire=misfire, window_seconds=3600.0, cause=CAUSE)
    assert len(run_us) == run
    assert [(reason.code, fold.count) for fold, reason in unrun_fires] == unrun
    assert run_us == sorted(run_us)


@pytest.mark.parametrize(("misfire", "run"), [(Misfire.SKIP, 3), (Misfire.LATEST, 3), (Misfire.ALL, 4)])
def test_a_kernel_that_runs_may_be_a_little_late(misfire: Misfire, run: int) -> None:
    """A fire that is only seconds late is on time for every policy."""
    cause = Reason("kernel_held_up", "the kernel could not act")
    due = fires(0.5, 0.05, 0.03, 0.01)
    run_us, unrun_fires = sort_out(due, older=None, now_us=NOW, misfire=misfire, window_seconds=3600.0, cause=cause)
    assert run_us == due[-run:]
    assert [(reason.code, fold.count) for fold, reason in unrun_fires] == ([("kernel_held_up", 1)] if run == 3 else [])


def test_all_is_bounded_to_the_last_hundred() -> None:
    """A window that takes all runs at most the last 100 late fires; the others are one row."""
    due = fires(*range(250, 0, -1))
    run_us, unrun_fires = sort_out(due, older=None, now_us=NOW, misfire=Misfire.ALL, window_seconds=1e6, cause=CAUSE)
    assert run_us == due[-100:]
    fold, reason = unrun_fires[0]
    assert (fold.first_us, fold.last_us, fold.count, reason.code) == (due[0], due[149], 150, "kernel_down")


@pytest.mark.parametrize(("window", "code"), [(60.0, "misfire_window"), (36_000.0, "kernel_down")])
def test_very_old_fires_are_counted_too(window: float, code: str) -> None:
    """Fires that were not looked at one by one are in the row, with the first of all, whatever the window is."""
    older = Fold(first_us=NOW - 500 * MINUTE, last_us=NOW - 121 * MINUTE, count=5000)
    due = fires(120, 119)
    run_us, unrun_fires = sort_out(
        due, older=older, now_us=NOW, misfire=Misfire.LATEST, window_seconds=window, cause=CAUSE
    )
    [(fold, reason)] = unrun_fires
    run = len(run_us)
    assert (fold.first_us, fold.count, reason.code) == (older.first_us, 5002 - run, code)
    assert fold.last_us == due[-1 - run]
