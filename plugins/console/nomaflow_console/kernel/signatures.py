"""The signatures of a job's callables, as far as its host tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomaflow.client import ClientError, KernelClient, KernelUnreachable
from nomaflow.client.values import CallableView


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
