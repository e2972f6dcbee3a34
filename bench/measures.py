"""The measures by group: each group starts what it needs and returns its series of values."""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import growth, logs, scheduling, starting
from bench.alerts import alerts
from bench.bare import BareSystem
from bench.console import console
from bench.crowd import crowd, with_instances
from bench.figures import at_rank
from bench.idle import idle
from bench.reading import reading
from bench.system import System
from bench.throughput import batched, chain, one_at_a_time, unary
from bench.watchers import with_watchers_elsewhere, with_watchers_of_everything
from nomaflow.client import KernelClient

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from postgres_server import PostgresServer
from real_system import free_ports

__all__ = ["GROUPS", "GROWTHS", "Series"]

Series = dict[str, list[float]]


async def _of_runs(system: System, client: KernelClient, rounds: int) -> Series:
    """M1, M1u, M2, M3 and M6, a round of all of them at a time."""
    found: Series = {name: [] for name in ("M1", "M1u", "M2 p50", "M2 p99", "M3", "M6")}
    await batched(system, client)
    await batched(system, client, job_id="sync", runs=200)
    await chain(system, client)
    for _ in range(rounds):
        found["M1"].append(await batched(system, client))
        found["M1u"].append(await unary(system, client))
        took = await one_at_a_time(client)
        found["M2 p50"].append(at_rank(took, 0.5))
        found["M2 p99"].append(at_rank(took, 0.99))
        found["M3"].append(await chain(system, client))
        found["M6"].append(await batched(system, client, job_id="sync"))
    return found


async def _of_logs(system: System, client: KernelClient, rounds: int) -> Series:
    """M4 and M4b."""
    found: Series = {name: [] for name in ("M4", "M4 readable", "M4b", "M4b eight")}
    await logs.writing(system, client)
    for _ in range(rounds):
        alone = logs.stdlib()
        rate, run_ids = await logs.writing(system, client)
        found["M4"].append(rate)
        found["M4b"].append(rate / alone)
        found["M4 readable"].append(await logs.readable(client, run_ids[0]))
        together, _ = await logs.writing(system, client, steps=8)
        found["M4b eight"].append(together / rate)
    return found


async def _on_one_system(store: str, rounds: int) -> Series:
    with System(store=store) as system:
        system.start_kernel()
        system.start_host()
        async with system.client() as client:
            await system.until_attached(client)
            return {**await _of_runs(system, client, rounds), **await _of_logs(system, client, rounds)}


async def _sqlite(rounds: int) -> Series:
    return await _on_one_system("", rounds)


async def _postgres(rounds: int) -> Series:
    server = await asyncio.to_thread(PostgresServer)
    try:
        await asyncio.to_thread(server.start, durable=True)
        found = await _on_one_system(server.url("postgres"), rounds)
    finally:
        await asyncio.to_thread(server.stop)
    return {f"{name} PostgreSQL": values for name, values in found.items()}


async def _bare(rounds: int) -> Series:
    """M10: the product and the bare prototype by turns, both up all the time."""
    found: Series = {"M10": [], "M10 bare": []}
    with System() as system:
        system.start_kernel()
        system.start_host()
        async with system.client() as client, BareSystem() as bare:
            await system.until_attached(client)
            await batched(system, client)
            await bare.batched()
            for _ in range(rounds):
                found["M10 bare"].append(statistics.median([await bare.batched() for _ in range(3)]))
                found["M10"].append(await batched(system, client) / found["M10 bare"][-1])
    return found


async def _tls(rounds: int) -> Series:
    """M12: triggers in calls, of a client over TLS with a token and of the owner on the Unix socket, by turns."""
    found: Series = {"M12": []}
    port = free_ports(3)
    with System() as system:
        # The default quotas of a token are far below what is measured.
        quotas = "[access.quotas]\ncalls_per_second = 1e6\ntriggers_per_second = 1e6\nqueued_runs = 1000000\n"
        (system.root / "kernel" / "nomaflow.toml").write_text(f"{quotas}bytes_per_second = 1000000000\n")
        system.start_kernel("--address", f"unix:,tls://127.0.0.1:{port}")
        system.start_host()
        async with system.client() as owner:
            await system.until_attached(owner)
            token = await owner.create_token("bench", kind="service", roles=["operator"])
            authority = await owner.get_authority()
            async with KernelClient(
                f"tls://127.0.0.1:{port}", token=token.secret, ca=authority.authorities_pem.encode()
            ) as client:
                await unary(system, owner, in_calls=True)
                await unary(system, client, in_calls=True)
                for number in range(rounds):
                    pair = [(owner, client), (client, owner)][number % 2]
                    rates = {id(each): await unary(system, each, in_calls=True) for each in pair}
                    found["M12"].append(rates[id(client)] / rates[id(owner)])
    return found


async def _due(rounds: int) -> Series:
    options = scheduling.parsed(["--rounds", "1", "--due-rounds", str(min(rounds, 5))])
    found = await asyncio.to_thread(scheduling.rounds, options)
    return {"M5": [one["last_started"] for one in found["due"]]}


async def _idle(rounds: int) -> Series:
    taken = [await idle() for _ in range(min(rounds, 3))]
    names = {"kernel_pss": "M7 kernel", "host_pss": "M7 host", "kernel_cpu": "M7 kernel CPU", "host_cpu": "M7 host CPU"}
    return {name: [one[key] for one in taken] for key, name in names.items()}


async def _reading(_: int) -> Series:
    found = await reading()
    kinds = {"list": "M8 list", "list_of_job": "M8 list of a job", "open": "M8 open", "tail": "M8 tail"}
    ranks = {f"{name} p99": [at_rank(found[key], 0.99)] for key, name in kinds.items()}
    return {**ranks, "M8 bytes a run": found["bytes_a_run"]}


async def _console(_: int) -> Series:
    found = await console()
    for name in [name for name in found if name.startswith(("C2", "C4")) and not name.endswith("CPU")]:
        found[f"{name} p99"] = [at_rank(found.pop(name), 0.99)]
    return found


async def _starting(rounds: int) -> Series:
    return await asyncio.to_thread(_start, rounds)


def _start(rounds: int) -> Series:
    with starting.project() as root:
        starting.up_seconds(root)
        found = {"M9 up": [starting.up_seconds(root) for _ in range(rounds)]}
        with starting.up(root):
            starting.wait_until_up(root)
            for name in ("version", "runs"):
                starting.command_seconds(root, name)
                found[f"M9 {name}"] = [starting.command_seconds(root, name) for _ in range(rounds * 3)]
    return found


GROUPS: Mapping[str, Callable[[int], Coroutine[Any, Any, Series]]] = {
    "starting": _starting,
    "idle": _idle,
    "sqlite": _sqlite,
    "bare": _bare,
    "postgresql": _postgres,
    "tls": _tls,
    "due": _due,
    "reading": _reading,
    "console": _console,
    "alerts": alerts,
    "crowd": crowd,
}
"""By the name to give to ``--only``; the argument is how many rounds to take."""

GROWTHS: Mapping[str, Callable[[], Coroutine[Any, Any, Sequence[growth.Row]]]] = {
    "queued": growth.with_queue,
    "history": growth.with_history,
    "hosts": growth.with_hosts,
    "instances": with_instances,
    "watchers": with_watchers_elsewhere,
    "everything": with_watchers_of_everything,
}
"""The curves, by what grows; the hosts have one shared worker each there."""
