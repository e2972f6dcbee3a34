"""Huey on SQLite: ``huey_consumer`` with two threads, results kept."""

from __future__ import annotations

import os
import time

from huey import SqliteHuey
from huey.api import Result

__all__ = ["batched", "chain", "huey", "nothing", "one_at_a_time", "start"]

POLL = 0.001  # seconds between two looks for a result

huey = SqliteHuey("bench", filename=os.environ["PEER_STORE"], fsync=True)


@huey.task()
def nothing(number: int = 0) -> int:
    """Do nothing; a result is stored, since it is not None."""
    return number + 1


def _known(result: Result) -> None:
    assert result.get(blocking=True, backoff=1.0, max_delay=POLL, preserve=True)


def start() -> None:
    """Connect; the tables were made with the object above."""


def batched(runs: int) -> float:
    """Huey has no call for many tasks: each is a call of its own."""
    began = time.perf_counter()
    results = [nothing() for _ in range(runs)]
    for result in results:
        _known(result)
    return time.perf_counter() - began


def one_at_a_time(runs: int) -> list[float]:
    """Call the task, wait for its result."""
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        _known(nothing())
        took.append((time.perf_counter() - began) * 1000)
    return took


def chain(steps: int) -> float:
    """Run a pipeline, in which each task gets the result of the one before."""
    began = time.perf_counter()
    pipeline = nothing.s(0)
    for _ in range(steps - 1):
        pipeline = pipeline.then(nothing)
    *_, last = huey.enqueue(pipeline)
    _known(last)
    took = time.perf_counter() - began
    assert last.get(preserve=True) == steps
    return took
