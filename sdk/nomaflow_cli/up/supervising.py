"""Runs a project's kernel and host together: started in order, watched, drained in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nomaflow.client import ClientError, ProjectAddress
from nomaflow.client.values import CatalogueView, HostView, KernelView
from nomaflow_cli.kernel_access import quiet_grpc
from nomaflow_cli.up.child_process import Part, PartFailed, PartState, host_command, kernel_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from nomaflow.client import KernelClient
    from nomaflow_cli.up.child_process import PartNotice
    from nomaflow_cli.up.reporting import Reporter

__all__ = ["ProjectSupervisor", "Ready"]

_POLL = 0.05
_ASK_AGAIN = 1.0
_READY_SECONDS = 30.0
_KERNEL_STOP_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """The running system once everything is up. ``host`` is None if it has not attached in time.

    :param kernel: the kernel that answers: on a shared database it may be another than the project's own
    :param kernel_pid: the project's own kernel
    :param kernel_seconds: time from the start of the kernel until it answered
    :param host_seconds: time from the start of the host until it was attached
    :param host_tail: its last lines if its code could not be loaded
    """

    project: Path
    address: str
    kernel: KernelView
    kernel_pid: int
    host: HostView | None
    catalogue: CatalogueView
    kernel_seconds: float
    host_seconds: float
    host_pid: int = 0
    host_tail: tuple[str, ...] = ()

    @property
    def stands_by(self) -> bool:
        """True if another kernel leads."""
        return self.kernel.pid != self.kernel_pid

    @property
    def serves(self) -> bool:
        """True if the host has code to run."""
        return any(one.pid == self.host_pid and one.generation for one in (self.host.instances if self.host else ()))


class ProjectSupervisor:
    """Runs a project's kernel and host as children.

    Use as an async context manager: entering starts the parts, leaving stops them.

    :param ca: file of the authorities that must vouch for the kernel, if it listens only with TLS
    :param drain_seconds: time that the host has to end after a stop request
    """

    def __init__(
        self,
        *,
        project: Path,
        reporter: Reporter,
        kernel_options: tuple[str, ...] = (),
        host_options: tuple[str, ...] = (),
        ca: Path | None = None,
        drain_seconds: float = 40.0,
    ) -> None:
        self._project = project
        self._reporter = reporter
        self._ca = ca
        self._drain_seconds = drain_seconds
        self._hurry = asyncio.Event()
        self._kill = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.failed = asyncio.get_running_loop().create_future()
        self.address = ProjectAddress(project=project)
        state = project / ".nomaflow"
        self.kernel, self.host = (
            Part(name=name, command=command, log=state / f"{name}.log", notify=self._notify)
            for name, command in (
                ("kernel", kernel_command(project, "--expect-host", *kernel_options)),
                ("host", host_command(project, *host_options)),
            )
        )

    def client(self, *, by: str = "up", on_connected: Callable[[bool], None] | None = None) -> KernelClient:
        """Return a client that waits for the project's kernel, even while it is being restarted."""
        with quiet_grpc():
            from nomaflow.client import KernelClient

        return KernelClient(
            self.address,
            ca=self._ca,
            by=by,
            connect_seconds=_READY_SECONDS,
            retry_seconds=float("inf"),
            on_connected=on_connected,
        )

    async def start(self) -> Ready:
        """Start both parts and return once the kernel answers and the host is attached.

        :raises PartFailed: if one of them ends before that
        """
        begun = time.monotonic()
        self._spawn(self.kernel.keep_running())
        async with self.client() as client:
            kernel = await self._or_failure(self._kernel_ready(client))
            kernel_seconds = time.monotonic() - begun
            begun = time.monotonic()
            self._spawn(self.host.keep_running())
            host = await self._or_failure(self._host_ready(client))
            ready = Ready(
                project=self._project,
                address=self.address.current(),
                kernel=kernel,
                kernel_pid=self.kernel.pid,
                host=host,
                catalogue=await client.list_jobs(),
                kernel_seconds=kernel_seconds,
                host_seconds=time.monotonic() - begun,
                host_pid=self.host.pid,
            )
            if not ready.serves:
                ready = replace(ready, host_tail=tuple(self.host.tail()))
        self._reporter.ready(ready)
        return ready

    async def run_until(self, stop: asyncio.Queue[signal.Signals]) -> None:
        """Show events until a signal arrives or a part fails; SIGHUP is passed on.

        :raises PartFailed: when a part ends and a restart would not help
        """
        self._spawn(self._show_events())
        while True:
            asked = asyncio.create_task(stop.get())
            await asyncio.wait({asked, self.failed}, return_when=asyncio.FIRST_COMPLETED)
            if self.failed.done():
                asked.cancel()
                await self.failed
            if asked.result() is not signal.SIGHUP:
                return
            self.pass_on(signal.SIGHUP)

    def pass_on(self, number: signal.Signals) -> None:
        """Send a signal to the running parts."""
        for part in (self.kernel, self.host):
            part.signal(number)

    async def stop(self, again: asyncio.Queue[signal.Signals] | None = None) -> None:
        """Drain the host, then stop the kernel. May be called twice.

        :param again: a signal in it makes the host stop its steps at once, by the ladder; the next one kills
        """
        listener = asyncio.create_task(self._listen(again)) if again is not None else None
        await self.host.stop(deadline=self._drain_seconds, hurry=self._hurry, kill=self._kill)
        await self.kernel.stop(deadline=_KERNEL_STOP_SECONDS, hurry=self._hurry, kill=self._kill)
        for task in [*self._tasks, *([listener] if listener else [])]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, PartFailed, ClientError):
                await task
        self._tasks.clear()
        if self.failed.done():
            self.failed.exception()  # Marks it as seen: the failure of a part during a stop is no news.

    async def _listen(self, again: asyncio.Queue[signal.Signals]) -> None:
        while await again.get() is signal.SIGHUP:
            pass  # A reload makes no sense any more, and is no reason to hurry.
        self._reporter.hurried()
        self._hurry.set()
        while await again.get() is signal.SIGHUP:
            pass
        self._kill.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None and not self.failed.done():
            self.failed.set_exception(task.exception() or AssertionError("a task failed without an error"))

    async def _or_failure(self, work: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.create_task(work)
        await asyncio.wait({task, self.failed}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ClientError):
                await task
            await self.failed
        return await task

    async def _kernel_ready(self, client: KernelClient) -> KernelView:
        # An older kernel may still answer at the address in the file: only ours counts. On PostgreSQL ours may stand
        # by, and redirects us to the leader.
        while True:
            kernel: KernelView = await client.get_kernel()
            if kernel.pid == self.kernel.pid or kernel.store == "postgresql":
                self.kernel.proven = True
                return kernel
            await asyncio.sleep(_POLL)

    async def _host_ready(self, client: KernelClient) -> HostView | None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            for host in await client.list_hosts():
                own = [one for one in host.instances if one.pid == self.host.pid and one.state == "ATTACHED"]
                # It is LOADING until it has sent its jobs. If its load failed it has none to send, and the jobs that
                # the kernel knows come from an earlier life.
                if own and (host.manifest_digest or not own[0].generation):
                    self.host.proven = True
                    return host
            await asyncio.sleep(_POLL)
        self.host.proven = True
        return None

    async def _show_events(self) -> None:
        """Show events. If the kernel refuses to send them, the parts still run, and the kernel is asked again."""
        seen, said = 0, ""
        while True:
            try:
                async with self.client() as client:
                    async for event in client.watch_events(after_seq=seen):
                        seen, said = event.seq, ""
                        self._reporter.event(event)
            except ClientError as error:
                if error.reason == "CURSOR_AHEAD":
                    seen = 0  # the history is another one by now: continue from its present
                    continue
                if said != str(error):
                    self._reporter.events_withheld(error)
                said = str(error)
            await asyncio.sleep(_ASK_AGAIN)

    def _notify(self, notice: PartNotice) -> None:
        part = self.kernel if notice.name == "kernel" else self.host
        if notice.state is PartState.STARTED and not part.proven:
            return  # The first start screen shows it.
        self._reporter.part(notice, tail=part.tail() if notice.state is PartState.CRASHED else [])
