"""A host's main process for a test to kill: starts a supervisor on hostile code and says which processes there are."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from harness import HOSTILE, Host, is_alive, pids_below, wait_until


async def main(folder: Path) -> None:
    host = Host(HOSTILE)
    await host.supervisor.start()
    await host.supervisor.load()
    host.run("hostile.stubborn:daemonises_and_stays", {"marker": str(folder / "daemon")})
    host.run("hostile.stubborn:async_tight_loop", {"marker": str(folder / "loop")})
    await wait_until(lambda: (folder / "daemon").exists() and (folder / "loop").exists())
    reaper, _ = host.supervisor.reaper_identity
    daemon = (folder / "daemon.child").read_text()
    pids = {reaper, int(daemon), *pids_below(reaper)}
    print(*filter(is_alive, pids), flush=True)
    await asyncio.Event().wait()


asyncio.run(main(Path(sys.argv[1])))
