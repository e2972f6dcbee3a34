"""M7: memory and processor time of a kernel and a host that have nothing to do."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from bench.system import System, job

__all__ = ["cpu_seconds", "idle", "pss_mib"]

_TICKS = os.sysconf("SC_CLK_TCK")
_SETTLE_SECONDS = 5.0


def pss_mib(pid: int) -> float:
    """Return a process's proportional share of memory in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no Pss in smaps_rollup of process {pid}")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def idle(*, seconds: float = 20.0) -> dict[str, float]:
    """Return MiB of the kernel and of the host's main process, and the share of one core that each uses."""
    with System(jobs=job("one", "nothing")) as system:
        pids = {"kernel": system.start_kernel().pid, "host": system.start_host().pid}
        async with system.client() as client:
            await system.until_attached(client)
        await asyncio.sleep(_SETTLE_SECONDS)
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        await asyncio.sleep(seconds)
        percent = {f"{name}_cpu": 100 * (cpu_seconds(pid) - before[name]) / seconds for name, pid in pids.items()}
        return {**{f"{name}_pss": pss_mib(pid) for name, pid in pids.items()}, **percent}
