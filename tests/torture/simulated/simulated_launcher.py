"""A played launcher with its engine: what waits for an instance of its own gets one, late, or two of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulated_schedule import Schedule

__all__ = ["launch_own_instances"]

_POLL_SECONDS = 2.0


async def launch_own_instances(world: Schedule) -> None:
    """Ask the kernel again and again, and start an instance for each attempt that the engine has none for."""
    while True:
        await asyncio.sleep(_POLL_SECONDS)
        kernel = world.kernel
        if kernel is None or not kernel.alive:
            continue
        listed = set(world.attempt_of.values())
        for demand in kernel.engine.demand():
            if demand.attempt_key and demand.attempt_key not in listed:
                world.spawn(_start(world, demand.attempt_key))


async def _start(world: Schedule, attempt_key: str) -> None:
    """Start an instance once there is a machine, and another one where the engine makes a mistake."""
    trouble = 0.0 if world.over else world.rng.random()
    name = world.name_own_instance(attempt_key)
    await asyncio.sleep(world.rng.choice((0.1, 1.0, 8.0)) if trouble else 0.1)
    world.start_host(name)
    if trouble > 0.7:
        world.ledger.say(f"engine: {name} is started a second time")
        twin = world.name_own_instance(attempt_key)
        await asyncio.sleep(world.rng.choice((0.0, 0.5, 20.0)))
        world.start_host(twin)
