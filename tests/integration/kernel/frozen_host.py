"""A host instance that attaches, says so, and is then frozen by a test. Usage: frozen_host.py ADDRESS TOKEN"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc.aio

sys.path.insert(0, str(Path(__file__).parents[2]))

from kernel_process import ScriptedHost  # after the path is set


async def main(address: str, token: str) -> None:
    """Attach and wait for ever."""
    async with grpc.aio.insecure_channel(address) as channel:
        host = ScriptedHost(metadata=(("authorization", f"Bearer {token}"),))
        await host.attach(channel)
        print("attached", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
