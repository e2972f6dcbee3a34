"""Measures stops through the whole system: client, kernel, host, worker, and back.

    python -m bench.stopping [--cancels 300] [--beside 100] [--kills 20]

Prints one JSON object: the machine, and for each figure its count, median, 99th percentile, least and most, in
milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import select
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))

from team_system import Ledger, TeamSystem

from nomaflow.client import KernelClient, TriggerOrder
from nomaflow.client.values import EventView

_THREAD_ON_IMPORT = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"


def figure(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return the summary of one series."""
    ordered = sorted(milliseconds)
    return {
        "count": len(ordered),
        "p50_ms": round(statistics.median(ordered), 2),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
        "least_ms": round(ordered[0], 2),
        "most_ms": round(ordered[-1], 2),
    }


def gone(pid: int) -> int:
    """Return a descriptor that becomes readable when a process ends."""
    return os.pidfd_open(pid)


def wait_gone(handle: int) -> None:
    """Wait for that."""
    select.select([handle], [], [], 30)
    os.close(handle)


async def event(client: KernelClient, run_id: str, *, run_state: str = "", attempt_state: str = "") -> None:
    """Wait for an event of a run, or for a snapshot that is past it."""
    async for item in client.watch_run(run_id):
        if isinstance(item, EventView):
            if (run_state and item.run_state == run_state) or (attempt_state and item.attempt_state == attempt_state):
                return
        elif (run_state and item.state == run_state) or (
            attempt_state and item.steps and item.steps[0].last.state == attempt_state
        ):
            return


async def start(client: KernelClient, job: str, ledger: Ledger) -> str:
    """Trigger a job and return the run's id once its code runs."""
    triggered = await client.trigger(TriggerOrder(job_id=job, params={"ledger": str(ledger.file)}))
    await event(client, triggered.run_id, attempt_state="RUNNING")
    return triggered.run_id


async def async_cancels(system: TeamSystem, client: KernelClient, count: int) -> list[float]:
    """Cancel waiting async steps, one after the other: from the call to the terminal event at the same client."""
    took = []
    for _ in range(count):
        run_id = await start(client, "awaits", system.ledger())
        watch = asyncio.create_task(event(client, run_id, run_state="CANCELED"))
        await client.get_run(run_id)  # so that the watch is under way
        began = time.perf_counter()
        await client.cancel(run_id)
        await watch
        took.append((time.perf_counter() - began) * 1000)
    return took


def kills(system: TeamSystem, job: str, count: int) -> list[float]:
    """Cancel a deaf step: from the call to the end of its process, as the system says."""
    took = []
    for _ in range(count):
        ledger = system.ledger()
        run_id = system.start(job, ledger)
        handle = gone(ledger.pid())
        began = time.perf_counter()
        system.api.cancel(run_id)
        wait_gone(handle)
        took.append((time.perf_counter() - began) * 1000)
        system.end(run_id)
    return took


def replacements(system: TeamSystem, job: str, count: int) -> list[float]:
    """Kill the worker of a step: from the kill to the first line of code of the next step of that kind."""
    took = []
    for _ in range(count):
        ledger, following = system.ledger(), system.ledger()
        run_id = system.start(job, ledger)
        pid = ledger.pid()
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        system.end(run_id)
        second = system.start(job, following)
        following.wait_for("start")
        took.append((time.perf_counter() - began) * 1000)
        system.api.cancel(second)
        system.end(second)
    return took


def measure(system: TeamSystem, options: argparse.Namespace) -> dict[str, Any]:
    """Return every figure."""
    client = system.api
    figures = {"async_cancel": figure(client.run(async_cancels(system, client.client, options.cancels)))}
    beside = [system.start("awaits", system.ledger()) for _ in range(options.beside)]
    took = client.run(async_cancels(system, client.client, options.cancels))
    figures[f"async_cancel_beside_{options.beside}"] = figure(took)
    for run_id in beside:
        client.cancel(run_id)
    for run_id in beside:
        system.end(run_id)
    figures["tight_loop_to_dead_grace_200_ms"] = figure(kills(system, "tight_loop", options.kills))
    figures["deaf_to_everything_to_dead_grace_200_ms"] = figure(kills(system, "deaf_worker", 5))
    figures["shared_worker_replaced_by_fork"] = figure(replacements(system, "awaits", options.kills))
    figures["exclusive_worker_replaced_by_fork"] = figure(replacements(system, "tight_loop", options.kills))
    host = system.parts["hostile"]
    (host.project / "plugins" / "threaded.py").write_text(_THREAD_ON_IMPORT)
    client.reload_host("hostile")
    figures["shared_worker_replaced_by_new_interpreter"] = figure(replacements(system, "awaits", options.kills))
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cancels", type=int, default=300)
    parser.add_argument("--beside", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nomaflow-bench-") as folder:
        system = TeamSystem(root=Path(folder))
        try:
            system.start_kernel()
            system.project("hostile")
            system.start_host("hostile", settings=("shared_workers = 1",))
            figures = measure(system, options)
        finally:
            system.close()
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    print(json.dumps({"machine": machine, "load": os.getloadavg()[0], "figures": figures}, indent=2))


if __name__ == "__main__":
    main()
