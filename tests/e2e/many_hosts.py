"""Many hosts in one process: the real session code, and nothing that runs steps. Usage: many_hosts.py FILE NAME COUNT

Says ``attached`` whenever all of them are, and goes on until its input ends.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from nomaflow_api.v1.letters import CancelOrder, DispatchOrder
from nomaflow_host.identity.files import IdentityFile
from nomaflow_host.outbox.event_storage import SpillStore
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.session.addresses import AddressSource
from nomaflow_host.session.facts import HostIdentity, HostStatus
from nomaflow_host.session.reconnecting import HostSession
from nomaflow_host.supervisor.values import LoadOutcome, Refused


class IdleRunner:
    """A runner that runs nothing."""

    newest_load: LoadOutcome | None = None
    serving: None = None

    def accept(self, order: DispatchOrder) -> None:
        """Refuse."""
        raise Refused("host_full", "this host runs nothing")

    def cancel(self, order: CancelOrder) -> None:
        """Do nothing: there is nothing to cancel."""

    def kill(self, attempt_key: str, reason_code: str, reason: str) -> None:
        """Do nothing: there is nothing to kill."""

    async def look_at_disk(self) -> None:
        """Do nothing: it has no files."""

    def status(self) -> HostStatus:
        """Return that nothing is loaded."""
        return HostStatus(isolation_mechanism="sampling")

    async def another(self, _than: None) -> None:
        """Wait for ever: nothing is offered."""
        await asyncio.Event().wait()

    async def reload(self, *, force: bool) -> LoadOutcome:
        """Never be asked: nothing is offered."""
        raise AssertionError("nobody asks for this")

    async def settled(self, seconds: float) -> bool:
        """Return True: nothing is ever loaded."""
        return True

    async def check(self, steps: bytes, seconds: float) -> bytes | None:
        """Find nothing wrong."""
        return b""

    async def drain(self, deadline_s: float) -> None:
        """Return at once."""


def session(name: str, address: Path, folder: Path) -> HostSession:
    """Return one host's session."""
    identity = HostIdentity(
        host=name, incarnation=secrets.token_hex(16), machine="here", pid=1, version="0",
        max_async=1, max_sync=1,
    )  # fmt: skip
    return HostSession(
        identity=identity,
        addresses=AddressSource(given="", file=address),
        identity_file=IdentityFile(folder / "identity.json"),
        runner=IdleRunner(),
        outbox=Outbox(store=SpillStore(directory=folder / name)),
    )


async def main(address: str, name: str, count: int) -> None:
    """Keep the hosts attached."""
    with tempfile.TemporaryDirectory() as folder:
        sessions = [session(f"{name}-{number}", Path(address), Path(folder)) for number in range(count)]
        tasks = [asyncio.create_task(one.run()) for one in sessions]
        stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        while not stop.done():
            await asyncio.gather(*(one.attached.wait() for one in sessions))
            print("attached", flush=True)
            while not stop.done() and all(one.attached.is_set() for one in sessions):
                await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
