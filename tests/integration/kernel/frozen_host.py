"""A host instance that joins, attaches, says so, and is then frozen by a test. Usage: frozen_host.py PROJECT"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from kernel_process import KernelProcess, ScriptedHost  # after the path is set

from doors import create_token, doors_of, join_as_host, tls_channel
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as access


async def main(project: Path) -> None:
    """Attach and wait for ever."""
    doors = doors_of(KernelProcess(project=project))
    string = JoinString.decode(await create_token(doors, kind=access.TOKEN_KIND_HOST, name="team"))
    identity, _ = await join_as_host(doors, string.secret)
    async with tls_channel(doors.hosts, doors.authorities, identity=identity) as channel:
        await ScriptedHost().attach(channel)
        print("attached", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
