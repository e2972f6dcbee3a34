"""Celery on Redis: two prefork workers, acknowledged after the task, results kept in Redis."""

from __future__ import annotations

import os
import time

import celery
from celery import Celery, group

from bench.peers.programs import real_step as step
from bench.peers.programs.asked import BATCH

__all__ = ["app", "batched", "chain", "nothing", "one_at_a_time", "real", "real_step", "start"]

STORE = f"redis+socket://{os.environ['PEER_STORE']}"

app = Celery("bench", broker=STORE, backend=STORE)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_acks_late=True,  # with the next one: a task whose worker dies runs again
    task_reject_on_worker_lost=True,
)


@app.task
def nothing() -> int:
    """Do nothing."""
    return 1


@app.task
def real_step() -> int:
    """Do the real step."""
    return step.real_step()


def start() -> None:
    """Connect at the first task; there are no tables to make."""


def batched(runs: int) -> float:
    """Send groups, wait for their results."""
    began = time.perf_counter()
    groups = [
        group(nothing.s() for _ in range(min(BATCH, runs - first))).apply_async() for first in range(0, runs, BATCH)
    ]
    results = [result for each in groups for result in each.get()]
    took = time.perf_counter() - began
    assert results == [1] * runs
    return took


def one_at_a_time(runs: int) -> list[float]:
    """Send a task, wait for its result."""
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        nothing.delay().get()
        took.append((time.perf_counter() - began) * 1000)
    return took


def chain(steps: int) -> float:
    """Send a chain, wait for the result of its last task."""
    began = time.perf_counter()
    assert celery.chain(*(nothing.si() for _ in range(steps))).apply_async().get() == 1
    return time.perf_counter() - began


def real(runs: int) -> float:
    """Send a group of real steps."""
    began = time.perf_counter()
    results = group(real_step.s() for _ in range(runs)).apply_async().get()
    took = time.perf_counter() - began
    assert results == [step.ROWS] * runs
    return took
