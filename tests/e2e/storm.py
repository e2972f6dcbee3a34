"""Storms on one door at a time: what the owner and the other doors notice of them. Run by `make storm`, and in short."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from doors import Doors, create_token, doors_of, join_as_host, owner_channel, tls_channel  # after the path is set
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.access_service_pb2_grpc import EnrolmentServiceStub
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from real_system import launch_kernel

__all__ = ["STORMS", "Noticed", "Storm", "weather"]

_ATTACKS = Path(__file__).with_name("storm_attacks.py")


@dataclass(frozen=True, kw_only=True)
class Storm:
    """One attack on one door.

    :param size: connections or calls at once
    :param bound: seconds that 99 of 100 of the owner's calls may take meanwhile
    """

    door: str
    attack: str
    size: int
    bound: float = 0.1


STORMS: Sequence[Storm] = (
    Storm(door="clients", attack="bodiless", size=6000),
    Storm(door="clients", attack="bad-tokens", size=200),
    Storm(door="clients", attack="metadata", size=8),
    Storm(door="clients", attack="connections", size=10_000),
    Storm(door="hosts", attack="half-open", size=6000),
    Storm(door="hosts", attack="connections", size=10_000),
    Storm(door="joining", attack="greetings", size=2000),
    Storm(door="joining", attack="pings", size=8, bound=1.0),
)


@dataclass(kw_only=True)
class Noticed:
    """The effects of a storm on everybody else.

    :param owner: seconds that each call on the owner's socket took
    :param others: door → seconds that each call there took, with a connection of its own; None for one that failed
    :param attacks: what the attacker began
    :param growth: MiB by which the kernel's memory grew
    """

    owner: list[float] = field(default_factory=list)
    others: dict[str, list[float | None]] = field(default_factory=dict)
    attacks: int = 0
    growth: float = 0.0

    @property
    def p99(self) -> float:
        """The owner's 99th percentile, in seconds."""
        return statistics.quantiles(self.owner, n=100)[98] if len(self.owner) > 1 else max(self.owner)

    def failures(self, door: str) -> int:
        """Return how many calls at another door failed."""
        return self.others[door].count(None)


class _Callers:
    """Callers with good credentials, one for each door."""

    def __init__(self, doors: Doors, token: str, identity: Any) -> None:
        self._doors, self._token, self._identity = doors, token, identity

    @classmethod
    async def of(cls, doors: Doors) -> _Callers:
        token = await create_token(doors, kind=access.TOKEN_KIND_SERVICE, name="ci", roles=["viewer"])
        string = JoinString.decode(await create_token(doors, kind=access.TOKEN_KIND_HOST, name="team"))
        identity, _ = await join_as_host(doors, string.secret)
        return cls(doors, token, identity)

    async def call(self, door: str) -> float | None:
        """Connect to a door and call it; return how long that took, None if it did not work within 5 s."""
        begun, address = time.perf_counter(), getattr(self._doors, door)
        identity = self._identity if door == "hosts" else None
        try:
            async with tls_channel(address, self._doors.authorities, identity=identity) as channel:
                await self._answered(door, channel)
        except grpc.aio.AioRpcError as error:
            if (door, error.code()) != ("joining", grpc.StatusCode.UNAUTHENTICATED):
                return None
        return time.perf_counter() - begun

    async def _answered(self, door: str, channel: grpc.aio.Channel) -> None:
        stub: Any
        if door == "clients":
            stub, shown = KernelServiceStub(channel), (("authorization", f"Bearer {self._token}"),)
            await stub.GetKernel(kernel.GetKernelRequest(), metadata=shown, timeout=15)
        elif door == "hosts":
            stub = HostGatewayServiceStub(channel)
            await stub.StreamReports(iter(()), timeout=15)
        else:
            stub = EnrolmentServiceStub(channel)
            await stub.Enrol(access.EnrolRequest(secret="x"), timeout=15)


@contextlib.contextmanager
def weather() -> Iterator[Any]:
    """Start a kernel with all doors; yield a function that lets a storm loose and returns what was noticed of it."""
    project = Path(tempfile.mkdtemp(prefix="ns-"))
    running = launch_kernel(project, "--address", "tls://127.0.0.1:0", log_file=project / "kernel.log")
    try:
        doors = doors_of(running)

        def endure(storm: Storm, seconds: float) -> Noticed:
            return asyncio.run(_endure(storm, seconds, doors, project, running.pid))

        yield endure
        assert not running.ended
        assert "Traceback" not in running.log, running.log[-3000:]
    finally:
        running.kill()
        shutil.rmtree(project)


async def _endure(storm: Storm, seconds: float, doors: Doors, project: Path, pid: int) -> Noticed:
    callers, noticed, process = await _Callers.of(doors), Noticed(), psutil.Process(pid)
    before = process.memory_info().rss
    attacker = subprocess.Popen(
        [
            sys.executable, str(_ATTACKS), storm.attack, getattr(doors, storm.door),
            str(project / ".nomaflow" / "pki" / "authorities.pem"), str(seconds), str(storm.size),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,  # what comes after a line stays in the pipe
    )  # fmt: skip
    try:
        assert attacker.stdout is not None
        await asyncio.to_thread(attacker.stdout.readline)
        await asyncio.sleep(min(1.0, seconds / 4))
        until = time.monotonic() + seconds * 0.8
        others = [door for door in ("clients", "hosts", "joining") if door != storm.door]
        await asyncio.gather(
            _call_as_owner(doors, until, noticed), *(_call_at(door, callers, until, noticed) for door in others)
        )
        noticed.growth = (process.memory_info().rss - before) / 2**20
        out, _ = await asyncio.to_thread(attacker.communicate, timeout=240)  # on a busy machine it takes long to end
        noticed.attacks = int(out or b"0")
    finally:
        attacker.kill()
        attacker.wait()
    return noticed


async def _call_as_owner(doors: Doors, until: float, noticed: Noticed) -> None:
    async with owner_channel(doors) as channel:
        stub: Any = KernelServiceStub(channel)
        while time.monotonic() < until:
            begun = time.perf_counter()
            await stub.GetKernel(kernel.GetKernelRequest(), timeout=30)
            noticed.owner.append(time.perf_counter() - begun)
            await asyncio.sleep(0.005)


async def _call_at(door: str, callers: _Callers, until: float, noticed: Noticed) -> None:
    noticed.others[door] = []
    while time.monotonic() < until:
        noticed.others[door].append(await callers.call(door))
        await asyncio.sleep(0.1)


def main() -> int:
    """Let every storm loose for 20 s, print what was noticed, and return 1 if a promise is broken."""
    broken = False
    with weather() as endure:
        for storm in STORMS:
            noticed = endure(storm, 20.0)
            failed = sum(noticed.failures(door) for door in noticed.others)
            bad = noticed.p99 > storm.bound or failed > 0
            broken |= bad
            print(
                f"{'BAD ' if bad else 'good'} {storm.attack} x{storm.size} at {storm.door}: {noticed.attacks} begun, "
                f"owner's p99 {noticed.p99 * 1000:.1f} ms of {len(noticed.owner)} calls, {failed} failures at other "
                f"doors of {sum(map(len, noticed.others.values()))}, memory {noticed.growth:+.0f} MiB",
                flush=True,
            )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
