"""A host's main process for a test to kill: starts a supervisor on hostile code and says which processes there are.

Lasting are those that only the end of the host ends; a passing one, as what forks a worker, may end by itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from harness import HOSTILE, Host, pids_below

from waiting import eventually


async def main(folder: Path) -> None:
    host = Host(HOSTILE)
    await host.supervisor.start()
    await host.supervisor.load()
    host.run("hostile.stubborn:daemonises_and_stays", {"marker": str(folder / "daemon")})
    host.run("hostile.stubborn:async_tight_loop", {"marker": str(folder / "loop")})
    files = [folder / name for name in ("daemon", "daemon.child", "loop")]
    await eventually(lambda: all(file.exists() and file.read_text() for file in files))  # a new file is empty at first
    reaper = host.supervisor.reaper_identity.pid
    template = pids_below(reaper)[0]  # the first that a reaper starts
    lasting = {reaper, template, *(int(file.read_text()) for file in files)}
    passing = set(pids_below(reaper)) - lasting
    print(json.dumps({"lasting": sorted(lasting), "passing": sorted(passing)}), flush=True)
    await asyncio.Event().wait()


asyncio.run(main(Path(sys.argv[1])))
