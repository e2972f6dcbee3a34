"""A1 to A4: what the alerts cost a kernel, how fast they take events in, and what they use when there is nothing."""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from bench.idle import cpu_seconds
from bench.system import PATIENCE, System, eventually
from bench.throughput import batched, one_at_a_time
from nomaflow.client import KernelClient
from nomaflow.client.alerts import AlertsClient

__all__ = ["alerts"]

_SETTLE_SECONDS = 10.0
_SECONDS = 60.0  # the system counts CPU time in hundredths: five of them in 20 s were all there was
_READ = "SELECT count(*), max(seq) FROM events WHERE kind IN ('run.queued', 'run.started', 'run.finished')"


class _Receiver(BaseHTTPRequestHandler):
    """Takes everything: the heartbeat is part of an idle process."""

    def do_POST(self) -> None:  # the library's name
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _receiver() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class _Alerts:
    """The alerts of a system's kernel, in a folder of their own, started and stopped."""

    def __init__(self, system: System, url: str) -> None:
        self._system, self._project = system, system.root / "alerts"
        self._project.mkdir()
        (self._project / "nomaflow.toml").write_text(
            f'[alerts]\nkernel = "{system.address}"\nheartbeat_url = "{url}"\nheartbeat_seconds = 10\n'
            f'channels.hook = {{ type = "webhook", url = "{url}" }}\n'
        )

    async def start(self, through: int = 0) -> int:
        """Start the process, wait until it has taken in the events up to one, and return its pid."""
        (self._project / ".nomaflow" / "alerts.address").unlink(missing_ok=True)
        pid = self._system.start("alerts-process", "nomaflow_alerts", "--project", str(self._project)).pid
        await asyncio.to_thread(eventually, (self._project / ".nomaflow" / "alerts.address").exists)
        await self.until(through)
        return pid

    async def until(self, seq: int) -> None:
        """Wait until an event is taken in."""
        async with AlertsClient(self._project) as client, asyncio.timeout(PATIENCE):
            while (await client.get_alerts()).last_event_seq < seq:
                await asyncio.sleep(0.02)

    def stop(self) -> None:
        """Stop the process."""
        self._system.stop("alerts-process")

    def forget(self) -> None:
        """Remove what the process remembers."""
        for file in (self._project / ".nomaflow").glob("alerts.db*"):
            file.unlink()


async def alerts(rounds: int) -> dict[str, list[float]]:
    """Take all of them, with one kernel; the latencies by turns: without, with, without."""
    with _receiver() as url, System() as system:
        system.start_kernel()
        system.start_host()
        process = _Alerts(system, url)
        async with system.client() as client:
            await system.until_attached(client)
            await batched(system, client, runs=500)
            ratios = [await _ratios(system, client, process) for _ in range(rounds)]
            rate = await _taking_in(system, client, process)
        latency, cpu = zip(*ratios, strict=True)
        return {"A1": list(latency), "A1 CPU": list(cpu), "A4": [rate], **await _idle(process)}


async def _ratios(system: System, client: KernelClient, process: _Alerts) -> tuple[float, float]:
    """Return, with the alerts ÷ without: the median latency, and the kernel's CPU time of a run.

    Half of the runs without come before, half after.
    """
    kernel = system.processes["kernel"].pid

    async def turn(runs: int) -> tuple[list[float], float]:
        before = cpu_seconds(kernel)
        took = await one_at_a_time(client, runs=runs)
        return took, cpu_seconds(kernel) - before

    without, cpu = await turn(200)
    await process.start(through=_newest(system)[1])
    await one_at_a_time(client, runs=20)
    attached, cpu_attached = await turn(400)
    await asyncio.to_thread(process.stop)
    more, cpu_more = await turn(200)
    return statistics.median(attached) / statistics.median(without + more), cpu_attached / (cpu + cpu_more)


async def _taking_in(system: System, client: KernelClient, process: _Alerts) -> float:
    """Return the events a second that a process without a memory takes in, until it knows all."""
    await batched(system, client, runs=4_000)
    events, newest = _newest(system)
    process.forget()
    await process.start()
    began = time.perf_counter()
    await process.until(newest)
    took = time.perf_counter() - began
    await asyncio.to_thread(process.stop)
    return events / took


def _newest(system: System) -> tuple[int, int]:
    """Return how many events the alerts read, and the number of the newest."""
    with system.look() as look:
        count, newest = look.rows(_READ)[0]
    return int(count), int(newest)


async def _idle(process: _Alerts) -> dict[str, list[float]]:
    """Return MiB and the share of one core of a process that has just been started, and has read everything."""
    pid = await process.start()
    await asyncio.sleep(_SETTLE_SECONDS)
    before = cpu_seconds(pid)
    await asyncio.sleep(_SECONDS)
    percent = 100 * (cpu_seconds(pid) - before) / _SECONDS
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    await asyncio.to_thread(process.stop)
    return {"A2": [resident], "A3": [percent]}
