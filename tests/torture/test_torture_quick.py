"""Thirteen seeded fault schedules over real kernel, host and worker processes; `make torture` runs many more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from torture_run import Torture, Verdict

pytestmark = pytest.mark.e2e

_SEEDS = (23, 69, 93, 116, 126, 127, 151, 210, 265, 266, 281, 369, 382)
"""Schedules of many faults, each sort planned five times or more: not every fault that is planned comes about."""
_SYSTEMS = 3
"""Tortured beside each other: most of a schedule is waiting for something to come back."""


async def _judge(seeds: Iterator[int]) -> list[Verdict]:
    verdicts = []
    async with Torture() as torture:
        for seed in seeds:
            verdict = await torture.run(seed)
            print(f"seed {seed}: {verdict.seconds:.2f} s")
            verdicts.append(verdict)
        return verdicts


async def _judge_all() -> list[Verdict]:
    seeds = iter(_SEEDS)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_judge(seeds)) for _ in range(_SYSTEMS)]
    return [verdict for task in tasks for verdict in task.result()]


@pytest.mark.timeout(400)
def test_no_schedule_of_faults_breaks_a_promise() -> None:
    """Each trigger is one run, nothing runs twice, and nothing is lost, whatever is killed, frozen, cut or refused."""
    verdicts = asyncio.run(_judge_all())
    broken = [verdict for verdict in verdicts if verdict.wrong]
    assert not broken, "\n".join(map(str, broken))
    befell = Counter(name for verdict in verdicts for name in verdict.befell)
    # Else all this has proved nothing: faults came about, and of all sorts.
    assert befell.total() >= len(_SEEDS)
    sorts = ("kill kernel", "kill host", "kill worker", "net ", "freeze ", "kernel:commit.", "kernel:Report.", "host:")
    for sort in sorts:
        assert any(name.startswith(sort) for name in befell), f"nothing of the sort {sort!r} came about: {befell}"
