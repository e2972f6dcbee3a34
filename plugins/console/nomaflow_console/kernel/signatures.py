"""The signatures of callables, as far as their hosts tell them: those of a job, and those of a name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from nomaflow.client import ClientError, KernelClient, KernelUnreachable
from nomaflow.client.values import CallableView, HostView

_AT_ONCE = 8
"""Hosts whose callables are in memory at a time."""


async def signatures_of(kernel: KernelClient, host: str, definition: Mapping[str, Any]) -> Mapping[str, CallableView]:
    """Return the callables of a job by reference; none if its host has never told any, or they may not be read."""
    steps = [step for step in definition.get("steps", ()) if isinstance(step, Mapping)]
    references = list(dict.fromkeys(str(step["callable"]) for step in steps if step.get("callable")))
    if not references:
        return {}
    try:
        found = await kernel.list_callables(host, references=references)
    except KernelUnreachable:
        raise
    except ClientError:
        return {}
    return {each.reference: each for each in found.callables if not each.error}


async def callables_called(
    kernel: KernelClient, hosts: Iterable[HostView], part: str
) -> list[tuple[str, CallableView]]:
    """Return the callables of hosts, each with its host, whose reference has a part, in any mix of capitals.

    :param part: in small letters
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def of(host: str) -> list[tuple[str, CallableView]]:
        try:
            async with gate:
                found = await kernel.list_callables(host)
        except KernelUnreachable:
            raise
        except ClientError:
            return []
        return [(host, each) for each in found.callables if part in each.reference.casefold()]

    found = await asyncio.gather(*(of(host.name) for host in hosts if host.callable_count))
    return [one for each in found for one in each]
