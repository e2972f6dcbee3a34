"""M4, M4b: how many log lines a second, beside what the standard library's logging alone reaches."""

from __future__ import annotations

import asyncio
import logging
import time

from bench.system import System
from bench.throughput import until_over
from nomaflow.client import KernelClient

__all__ = ["LINES", "readable", "stdlib", "writing"]

LINES = 100_000


class _Appending(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


def stdlib() -> float:
    """Return the lines a second of a logger of the standard library whose handler appends to a list."""
    handler = _Appending()
    logger = logging.getLogger("bench.alone")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    line = "line %06d " + "x" * 68
    began = time.perf_counter()
    for number in range(LINES):
        logger.info(line, number)
    took = time.perf_counter() - began
    logger.removeHandler(handler)
    assert len(handler.kept) == LINES
    return LINES / took


async def writing(system: System, client: KernelClient, *, steps: int = 1) -> tuple[float, list[str]]:
    """Return the lines a second of so many runs that log at once, until all are terminal, and the runs' ids."""
    with system.look() as look:
        began = time.perf_counter()
        started = await asyncio.gather(*(client.trigger("log") for _ in range(steps)))
        run_ids = [one.run_id for one in started]
        await until_over(look, min(run_ids))
        took = time.perf_counter() - began
        kept = look.rows(f"SELECT min(log_lines) FROM runs WHERE run_id >= '{min(run_ids)}'")
        assert kept[0][0] == LINES, kept
    return steps * LINES / took, run_ids


async def readable(client: KernelClient, run_id: str) -> int:
    """Return how many lines of a run can be read, after checking that they are the ones written."""
    number = 0
    async for block in client.read_log_blocks(run_id):
        for line in block:
            assert line.message.startswith(f"line {number:06d} "), line.message
            assert len(line.message) == 80, line.message  # as the measure says
            number += 1
    return number
