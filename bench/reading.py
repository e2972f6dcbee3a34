"""M8: pages of a list of a million runs, one run opened, and the end of a log of a million lines."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from bench.history import copies
from bench.system import System, job
from bench.throughput import until_over
from nomaflow.client import KernelClient

__all__ = ["lengthen", "reading"]

_LINES = 10_000
_JOBS = "\n".join([job("one", "nothing"), job("log", "write", more=f"op_kwargs = {{ count = {_LINES} }}\n")])
_LOG_COPIES = """
WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {copies})
INSERT INTO log_chunks SELECT {columns} FROM n, log_chunks t WHERE t.run_id = '{run_id}'
"""


async def reading(*, runs: int = 1_000_000, lines: int = 1_000_000, calls: int = 200) -> dict[str, list[float]]:
    """Return the milliseconds of each call of each kind, and the bytes of a run in the store."""
    with System(jobs=_JOBS) as system:
        system.start_kernel()
        system.start_host()
        run_id, logged = await _two_runs(system, "one")
        system.stop("kernel")
        middle = copies(system.database, run_id=run_id, count=runs)
        bytes_a_run = system.database.stat().st_size / runs
        lengthen(system.database, run_id=logged, times=lines // _LINES, lines=_LINES)
        system.start_kernel()
        async with system.client() as client:
            await system.until_attached(client)
            found = await _measured(client, logged, lines=lines, middle=middle, calls=calls)
        return {**found, "bytes_a_run": [bytes_a_run]}


async def _two_runs(system: System, job_id: str) -> tuple[str, str]:
    """Run a job and then the job `log`; return the ids of both runs."""
    async with system.client() as client:
        await system.until_attached(client)
        run_id = (await client.trigger(job_id)).run_id
        logged = (await client.trigger("log")).run_id
        with system.look() as look:
            await until_over(look)
    return run_id, logged


def lengthen(database: Path, *, run_id: str, times: int, lines: int) -> None:
    """Repeat the log chunks of a run so many times in all.

    :param lines: the lines of the run's log
    """
    with closing(sqlite3.connect(database)) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(log_chunks)")]
        columns = ", ".join(f"t.first_seq + n.i * {lines}" if name == "first_seq" else f"t.{name}" for name in names)
        connection.execute(_LOG_COPIES.format(copies=times, columns=columns, run_id=run_id))
        connection.execute("UPDATE runs SET log_lines = ? WHERE run_id = ?", (times * lines, run_id))
        connection.commit()


async def _measured(
    client: KernelClient, logged: str, *, lines: int, middle: str, calls: int
) -> dict[str, list[float]]:
    async def first_page() -> None:
        await _page(client, job_id="")

    async def page_of_job() -> None:
        await _page(client, job_id="one")

    async def opened() -> None:
        assert (await client.get_run(middle)).steps

    async def tailed() -> None:
        seqs = [line.seq async for line in client.read_logs(logged, tail=100)]
        assert (len(seqs), seqs[-1]) == (100, lines), (len(seqs), seqs[-1])

    kinds = {"list": first_page, "list_of_job": page_of_job, "open": opened, "tail": tailed}
    return {name: await _milliseconds(call, calls) for name, call in kinds.items()}


async def _page(client: KernelClient, *, job_id: str) -> None:
    found = 0
    async for _ in client.list_runs(job_id=job_id, page_size=50):
        found += 1
        if found == 50:  # one page
            return


async def _milliseconds(call: Callable[[], Awaitable[None]], calls: int) -> list[float]:
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        await call()
        took.append((time.perf_counter() - began) * 1000)
    return took
