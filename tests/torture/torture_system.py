"""The system under torture: a kernel, a proxy, a host, their processes, and the code that restarts them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from failpoints import FiringLog, disarm

from nomaflow.client import FixedAddress, KernelClient
from nomaflow.client.values import InstanceView

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
sys.path.insert(0, str(Path(__file__).parents[1]))
from tcp_proxy import TcpProxy, Way  # found by the line above

from processes import pids_below
from warm_start import Forked, fork

__all__ = ["SECRET", "TcpProxy", "Timeline", "TortureSystem", "Victim", "Way"]

SECRET = "tortured-secret-5f1d"
_HERE = Path(__file__).parent
_CLOCKS = ("--heartbeat-seconds", "0.5", "--lease-seconds", "2", "--lost-after-seconds", "60")
_LOOK_SECONDS = 0.01
_START_SECONDS = 120.0


class Timeline:
    """The injected faults with their times, for people."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Add a line with the time since the beginning."""
        self.lines.append(f"{time.monotonic() - self._began:8.3f}  {text}")


@dataclass(kw_only=True)
class Victim:
    """A process that is started again whenever it has died.

    :param program: the module that it runs, and its arguments
    :param modules: what it has imported before it begins
    :param points: where its failpoints are armed
    :param restart_ms: how long it stays away
    :param on_death: told before it is started again
    """

    name: str
    program: list[str]
    modules: str
    points: Path
    log: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    process: Forked | None = None
    restart_ms: int = 0
    deaths: int = 0
    fired: FiringLog = field(init=False)

    def __post_init__(self) -> None:
        self.points.mkdir(parents=True, exist_ok=True)
        self.fired = FiringLog(directory=self.points)

    @property
    def pid(self) -> int:
        """The process id, 0 if there is none."""
        return 0 if self.process is None or self.process.poll() is not None else self.process.pid

    def start(self) -> None:
        """Start it."""
        environ = {**os.environ, **self.environ}
        with self.log.open("ab") as log, Path(os.devnull).open("rb") as nothing:
            self.process = fork(
                self.program,
                modules=(self.modules,),
                cwd=Path.cwd(),
                env=environ,
                streams=(nothing, log, log),
                path=str(_HERE),
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self) -> None:
        """Kill it for good."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class TortureSystem:
    """A kernel and a host that live through many schedules.

    :param root: a new directory with a short path, since sockets are below it
    """

    def __init__(self, *, root: Path) -> None:
        self.root = root
        kernel_dir, self.host_dir = root / "k", root / "h"
        kernel_dir.mkdir(mode=0o700)
        shutil.copytree(_HERE / "project", self.host_dir, ignore=shutil.ignore_patterns("__pycache__", ".nomaflow"))
        self._socket = root / "k" / "socket"
        self.database = kernel_dir / ".nomaflow" / "kernel.db"
        self.timeline = Timeline()
        self._address = FixedAddress(address=f"unix:{self._socket}")
        self.proxy = TcpProxy(f"unix:{self._socket}", listen=f"unix:{root / 'proxy'}")
        self.kernel = Victim(
            name="kernel",
            program=[
                "torture_kernel", str(root / "fk"),
                "--project", str(kernel_dir), "--address", f"unix:{self._socket}", *_CLOCKS,
            ],
            modules="nomaflow_kernel.app",
            points=root / "fk",
            log=root / "kernel.log",
        )  # fmt: skip
        self.host = Victim(
            name="host",
            program=["torture_host", str(root / "fh"), "--project", str(self.host_dir)],
            modules="nomaflow_host.app",
            points=root / "fh",
            log=root / "host.log",
            environ={"TORTURE_SECRET": SECRET},
        )
        self._keeper: asyncio.Task[None] | None = None
        self._thaws: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.freezes: dict[int, int] = {}
        self.fired: set[int] = set()

    async def start(self) -> None:
        """Start everything and wait until the host's code serves."""
        self.proxy.__enter__()
        self.kernel.start()
        self._tell_address()
        self.host.start()
        self._keeper = asyncio.create_task(self._keep())
        await self.ready(_START_SECONDS)

    async def close(self) -> None:
        """Kill everything; nothing is left. All of it before the first await, so that a Ctrl-C cannot come between."""
        for task in filter(None, [self._keeper, *self._tasks]):
            task.cancel()
        below = self.tree()
        self.host.end()
        self.kernel.end()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.proxy.__exit__(None, None, None)
        await asyncio.gather(*filter(None, [self._keeper]), *self._tasks, return_exceptions=True)

    def client(self) -> KernelClient:
        """Return a new client, which keeps trying for as long as a schedule may take."""
        return KernelClient(self._address, by="torture", connect_seconds=_START_SECONDS, retry_seconds=60.0)

    async def ready(self, seconds: float) -> None:
        """Wait until this kernel has this host process attached, and its code serves.

        :raises TimeoutError: where that takes too long
        """
        async with asyncio.timeout(seconds), self.client() as client:
            while not await self._serves(client):
                await asyncio.sleep(0.02)

    async def _serves(self, client: KernelClient) -> bool:
        if not (self.kernel.pid and self.host.pid):
            return False
        instance: InstanceView
        for host in await client.list_hosts():
            for instance in host.instances:
                if instance.pid == self.host.pid and instance.state == "ATTACHED" and instance.generation:
                    return bool(host.manifest_digest)
        return False

    def process_of(self, name: str) -> int:
        """Return a process id by the name that faults use, 0 if there is none now.

        A worker is the newest one.
        """
        victim = {"kernel": self.kernel, "host": self.host}.get(name)
        if victim is not None:
            return victim.pid
        return _pid_below(self.host.pid, name)

    def tree(self) -> list[int]:
        """Return every process below the host."""
        return pids_below(self.host.pid)

    def disarm(self) -> None:
        """Take back every failpoint that has not fired."""
        for victim in (self.kernel, self.host):
            disarm(victim.points)

    async def _thaw_later(self, pid: int, ms: int) -> None:
        """Thaw a frozen process after a while."""
        await asyncio.sleep(ms / 1000)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        self.timeline.note(f"process {pid} goes on")

    async def settled(self) -> None:
        """Wait until nothing is frozen any more."""
        await asyncio.gather(*self._thaws)

    def freeze(self, pid: int, ms: int) -> None:
        """Stop a process for a while."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self._thaw(pid, ms)

    def _thaw(self, pid: int, ms: int) -> None:
        task = self._beside(self._thaw_later(pid, ms))
        self._thaws.add(task)
        task.add_done_callback(self._thaws.discard)

    def _beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep(self) -> None:
        while True:
            for victim in (self.kernel, self.host):
                for firing in victim.fired.news():
                    self.timeline.note(f"{victim.name}: failpoint {firing.number} fires: {firing.action}")
                    self.fired.add(firing.number)
                    if firing.action == "freeze":
                        self._thaw(firing.pid, self.freezes.get(firing.number, 100))
                if victim.process is not None and victim.process.poll() is not None:
                    await self._again(victim)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _again(self, victim: Victim) -> None:
        assert victim.process is not None
        victim.deaths += 1
        self.timeline.note(f"{victim.name} {victim.process.pid} is dead: {victim.process.returncode}")
        await asyncio.sleep(victim.restart_ms / 1000)
        victim.start()
        self.timeline.note(f"{victim.name} is started again as {victim.pid}")
        if victim is self.kernel:
            self._beside(self._tell_address_once_it_listens())

    async def _tell_address_once_it_listens(self) -> None:
        """Have the host try as soon as that makes sense; with a kernel of its own project it is the same."""
        pid = self.kernel.pid
        while pid == self.kernel.pid != 0:
            try:
                _, writer = await asyncio.open_unix_connection(self._socket)
            except OSError:
                await asyncio.sleep(_LOOK_SECONDS)
            else:
                writer.close()
                self._tell_address()
                return

    def _tell_address(self) -> None:
        """Write the address again where the host looks for it, so that it tries at once."""
        file = self.host_dir / ".nomaflow" / "address"
        file.parent.mkdir(mode=0o700, exist_ok=True)
        fresh = file.with_suffix(".new")
        fresh.write_text(self.proxy.address)
        fresh.replace(file)


def _pid_below(host: int, name: str) -> int:
    with contextlib.suppress(psutil.Error):
        reapers = psutil.Process(host).children() if host else []
        if name == "reaper":
            return int(reapers[0].pid) if reapers else 0
        below = sorted((child for reaper in reapers for child in reaper.children()), key=_age)
        # The template is the first that the reaper starts; what it forks looks the same.
        chosen: Callable[[list[psutil.Process]], int] = (
            (lambda found: found[0].pid) if name == "template" else (lambda found: found[-1].pid)
        )
        return chosen(below) if len(below) > (name == "worker") else 0
    return 0


def _age(process: psutil.Process) -> tuple[float, int]:
    return (process.create_time(), process.pid)
