"""DBOS on PostgreSQL: a library, so the program that starts workflows also runs them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbos import DBOS

from bench.peers.programs import real_step as step

__all__ = ["batched", "chain", "one_at_a_time", "real", "start"]

CALLERS = 16

DBOS(
    config={
        "name": "bench",
        "system_database_url": "postgresql+psycopg://{PGUSER}@/{PGDATABASE}?host={PGHOST}".format(**os.environ),
    }
)


@DBOS.workflow()
def nothing() -> int:
    """Do nothing, and have that recorded."""
    return 1


@DBOS.step()
def one_step() -> int:
    """Do nothing, and have that recorded as a step."""
    return 1


@DBOS.workflow()
def many_steps(steps: int) -> int:
    """Run steps one after another."""
    return sum(one_step() for _ in range(steps))


@DBOS.workflow()
def real_step() -> int:
    """Run the real step."""
    return DBOS.run_step(None, step.real_step)


def start() -> None:
    """Make the tables and start."""
    DBOS.launch()


def _all(workflow: Callable[[], Any], runs: int) -> list[Any]:
    """Start workflows from several threads, since DBOS has no call for many, and return their results."""
    with ThreadPoolExecutor(CALLERS) as callers:
        handles = list(callers.map(lambda _: DBOS.start_workflow(workflow), range(runs)))
        return [handle.get_result() for handle in handles]


def batched(runs: int) -> float:
    """Start so many workflows, wait for their results."""
    began = time.perf_counter()
    results = _all(nothing, runs)
    took = time.perf_counter() - began
    assert results == [1] * runs
    return took


def one_at_a_time(runs: int) -> list[float]:
    """Start a workflow, wait for its result."""
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        DBOS.start_workflow(nothing).get_result()
        took.append((time.perf_counter() - began) * 1000)
    return took


def chain(steps: int) -> float:
    """Run a workflow of so many steps."""
    began = time.perf_counter()
    assert DBOS.start_workflow(many_steps, steps).get_result() == steps
    return time.perf_counter() - began


def real(runs: int) -> float:
    """Start so many workflows of one real step each."""
    began = time.perf_counter()
    results = _all(real_step, runs)
    took = time.perf_counter() - began
    assert results == [step.ROWS] * runs
    return took
