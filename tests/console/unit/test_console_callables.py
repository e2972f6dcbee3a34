"""Callables that are found by a part of their names, whichever host brings them."""

from __future__ import annotations

import asyncio
from typing import cast

from nomaflow.client import KernelClient, PermissionDenied
from nomaflow.client.values import CallablesView, CallableView, HostView
from nomaflow_console.kernel.signatures import callables_called


class _Kernel:
    """A kernel whose hosts have one callable each: `job_7:run` of host `h7`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.most = self._now = 0

    async def list_callables(self, host: str) -> CallablesView:
        self.asked.append(host)
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        if host == "h3":
            raise PermissionDenied("no")
        return CallablesView(host=host, callables=(CallableView(reference=f"Job_{host[1:]}:run"),))


async def test_the_callables_of_all_hosts_are_found() -> None:
    """Also those of the last of two hundred; a host that may not be read has none, and few are asked at a time."""
    kernel = _Kernel()
    hosts = [HostView(name=f"h{number}", state="ATTACHED", callable_count=number) for number in range(200)]
    found = await callables_called(cast(KernelClient, kernel), hosts, "job_1")
    assert [host for host, _ in found] == ["h1", *(f"h{number}" for number in (*range(10, 20), *range(100, 200)))]
    assert found[-1][1].reference == "Job_199:run"
    assert len(kernel.asked) == 199
    assert kernel.most == 8
    assert await callables_called(cast(KernelClient, kernel), hosts, "job_3:") == []
