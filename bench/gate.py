"""The regression gate: the product beside the bare prototype and the standard library, within one run."""

from __future__ import annotations

import statistics
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import logs
from bench.bare import BareSystem
from bench.system import System
from bench.throughput import batched, chain, one_at_a_time
from nomaflow.client import KernelClient

__all__ = ["gate", "judged", "ratios"]

FLOORS = Path(__file__).with_name("floors.toml")
_ROUNDS = 3
_BARE_RUNS = 5_000

Say = Callable[[str], object]


async def ratios(rounds: int = _ROUNDS) -> dict[str, list[float]]:
    """Return each ratio of each round; more is better."""
    found: dict[str, list[float]] = {name: [] for name in ("runs", "sync_runs", "one_run", "steps", "log_lines")}
    with System() as system:
        system.start_kernel()
        system.start_host()
        async with system.client() as client, BareSystem() as bare:
            await system.until_attached(client)
            await batched(system, client)
            await batched(system, client, job_id="sync", runs=200)
            for _ in range(rounds):
                for name, ratio in (await _round(system, client, bare)).items():
                    found[name].append(ratio)
    return found


async def _round(system: System, client: KernelClient, bare: BareSystem) -> dict[str, float]:
    bare_rate = await bare.batched(runs=_BARE_RUNS)
    bare_ms = statistics.median(await bare.one_at_a_time(runs=200))
    rate = await batched(system, client)
    sync_rate = await batched(system, client, job_id="sync", runs=500)
    took_ms = statistics.median(await one_at_a_time(client, runs=200))
    steps = await chain(system, client)
    alone = logs.stdlib()
    lines, _ = await logs.writing(system, client)
    return {
        "runs": rate / bare_rate,
        "sync_runs": sync_rate / bare_rate,
        "one_run": bare_ms / took_ms,
        "steps": steps * bare_ms / 1000,
        "log_lines": lines / alone,
    }


def judged(found: Mapping[str, list[float]], floors: Mapping[str, float], *, say: Say) -> bool:
    """Print a table of the best of each ratio and its floor; return whether none is under."""
    say(f"{'ratio':<10} {'best':>8} {'floor':>8}   all rounds")
    under = []
    for name, floor in floors.items():
        best = max(found[name])
        if best < floor:
            under.append(name)
        rounds = " ".join(f"{one:.3f}" for one in found[name])
        say(f"{name:<10} {best:>8.3f} {floor:>8.3f}   {rounds}{'   UNDER THE FLOOR' if best < floor else ''}")
    if under:
        say(f"slower than the recorded floor: {', '.join(under)}; what the ratios mean is in {FLOORS.name}")
    return not under


async def gate() -> int:
    """Measure, print, and return 1 where a ratio is under its floor."""
    floors = tomllib.loads(FLOORS.read_text())
    found = await ratios()
    return 0 if judged(found, floors, say=lambda line: print(line, file=sys.stdout)) else 1
