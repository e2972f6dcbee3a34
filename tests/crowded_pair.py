"""Two kernels on one PostgreSQL with a crowd of instances and a queue, and the end of the one that leads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from crowd_plan import Plan
from crowd_process import CrowdProcess
from nomaflow.client import KernelClient, TriggerOrder
from postgres_server import PostgresServer
from real_system import Running, launch_kernel
from waiting import eventually

__all__ = ["CrowdedPair", "crowded_pair"]

_BATCH = 1_000
_LEASE = "SELECT lease_until_us FROM leadership"


class CrowdedPair:
    """Kernel "a" leads, "b" stands by, both with the default clocks; all instances know both addresses."""

    def __init__(self, *, kernels: dict[str, Running], crowd: CrowdProcess, url: str) -> None:
        self.kernels = kernels
        self.crowd = crowd
        self._url = url.replace("+asyncpg", "")
        self.client = KernelClient(crowd.plan.addresses.split(","))

    async def queue(self, runs: int) -> None:
        """Queue runs over all jobs, while every step of the crowd goes on."""
        await asyncio.to_thread(self.crowd.ask, "hold")
        job_ids = self.crowd.job_ids()
        for first in range(0, runs, _BATCH):
            numbers = range(first, min(first + _BATCH, runs))
            await self.client.trigger_many([TriggerOrder(job_id=job_ids[n % len(job_ids)]) for n in numbers])

    async def freeze_leader(self, *, seconds: float) -> dict[str, float]:
        """Stop kernel "a" as if its machine were gone; nobody on this one can see that it has ended.

        It stops just after it has renewed its lease, so that the other one has to wait for the whole of it.

        :param seconds: how long each step may take
        :return: the seconds until "b" leads, knows the schedules, answers a trigger, and has everybody attached
        """
        sessions = int(self.crowd.ask()["sessions"])
        lease = self.rows(_LEASE)
        await eventually(lambda: self.rows(_LEASE) != lease, seconds=seconds)
        os.kill(self.kernels["a"].pid, signal.SIGSTOP)
        began = time.monotonic()
        took: dict[str, float] = {}

        async def said(text: str, name: str) -> None:
            await eventually(lambda: text in self.kernels["b"].log, seconds=seconds)
            took[name] = time.monotonic() - began

        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            group.create_task(said("loaded in", "fires"))
            await said("serving on", "leads")
            await self.client.trigger(TriggerOrder(job_id=self.crowd.job_ids()[0]))
            took["answers"] = time.monotonic() - began
        await asyncio.to_thread(self.crowd.until_attached, sessions=sessions + self.crowd.count, seconds=seconds)
        return {**took, "attached": time.monotonic() - began}

    async def drain(self, runs: int, *, seconds: float) -> dict[str, Any]:
        """Let all steps end and everything that is queued run; return what the crowd has counted then."""
        told = await asyncio.to_thread(self.crowd.ask, "release")
        async with asyncio.timeout(seconds):
            while told["finished"] < runs:
                await asyncio.sleep(0.1)
                told = await asyncio.to_thread(self.crowd.ask)
        return told

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return rows of the store."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()


@contextmanager
def crowded_pair(folder: Path, server: PostgresServer, *, database: str, plan: dict[str, Any]) -> Iterator[CrowdedPair]:
    """Start both kernels and the crowd, which begins to attach.

    :param plan: the numbers of the crowd's plan
    """
    with contextlib.ExitStack() as stack:
        with psycopg.connect(server.url("postgres").replace("+asyncpg", ""), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}".encode())
        kernels: dict[str, Running] = {}
        for name in ("a", "b"):
            (folder / name).mkdir()
            flags = ("--store", server.url(database))
            kernels[name] = launch_kernel(folder / name, *flags, log_file=folder / f"{name}.log")
            stack.callback(kernels[name].kill)
        addresses = ",".join(f"unix:{folder}/{name}/.nomaflow/run/kernel.sock" for name in kernels)
        crowd = stack.enter_context(CrowdProcess(Plan(addresses=addresses, **plan), folder=folder))
        yield CrowdedPair(kernels=kernels, crowd=crowd, url=server.url(database))
