"""Runs a project's kernel and host together: started in order, watched, drained in order."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nomaflow.client import ClientError, ProjectAddress
from nomaflow.client.values import CatalogueView, EventView, HostView, KernelView
from nomaflow_cli.kernel_access import kernel_client, telling_trouble
from nomaflow_cli.up.kept_running import Part, PartFailed, PartNotice, PartState, part_command

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow_cli.up.reporting import Reporter

R = TypeVar("R")

_POLL = 0.05
_NOTHING = asyncio.subprocess.DEVNULL
_ASK_AGAIN = 1.0
_READY_SECONDS = 30.0
_KERNEL_STOP_SECONDS = 10.0
_CONSOLE_STOP_SECONDS = 5.0
_BESIDE_SOON_SECONDS = 20.0
_ADDRESS_FILES = {"console": "console", "alerts": "alerts.address"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """The addresses, processes and jobs of the system once it is up. ``host`` is None if it has not attached in time.

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
    """Runs a project's kernel and host, and its console and alerts, as children.

    :param kernel_options: options of the kernel's command line; ``host_options`` those of the host's
    :param drain_seconds: time that the host has to end after a stop request
    :param with_console: whether there is a console. It may fail: kernel and host go on without it
    :param with_alerts: whether there are alerts, likewise
    """

    def __init__(
        self,
        *,
        project: Path,
        reporter: Reporter,
        kernel_options: tuple[str, ...] = (),
        host_options: tuple[str, ...] = (),
        drain_seconds: float = 40.0,
        with_console: bool = False,
        with_alerts: bool = False,
    ) -> None:
        self._project = project
        self._reporter = reporter
        self._drain_seconds = drain_seconds
        # Each request of the person sets the next one; a part that fails sets the first one, too.
        self._over, self._hurry, self._kill = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._failure: BaseException | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.address = ProjectAddress(project=project)
        self.kernel = self._part("kernel", "--expect-host", *kernel_options)
        self.host = self._part("host", *host_options)
        names = [name for name, wanted in (("console", with_console), ("alerts", with_alerts)) if wanted]
        self._beside = [self._part(name, needed=False) for name in names]

    def _part(self, name: str, *options: str, needed: bool = True) -> Part:
        return Part(
            name=name,
            command=part_command(name, self._project, *options),
            log=self._project / ".nomaflow" / f"{name}.log",
            notify=self._notify,
            needed=needed,
        )

    def client(self, *, by: str = "up", on_connected: Callable[[bool], None] | None = None) -> KernelClient:
        """Return a client that waits for the project's kernel, even while it is being restarted."""
        return kernel_client(
            self.address,
            by=by,
            connect_seconds=_READY_SECONDS,
            retry_seconds=float("inf"),
            on_connected=on_connected,
        )

    def handle(self, number: signal.Signals) -> None:
        """React to a signal: SIGHUP and SIGUSR1 are passed on to the parts, any other one is a request to stop."""
        if number not in (signal.SIGHUP, signal.SIGUSR1):
            self.ask_to_stop()
        elif number is signal.SIGUSR1 or not self._over.is_set():  # a stop makes a reload pointless
            for part in (self.kernel, self.host):
                part.signal(number)

    def ask_to_stop(self) -> None:
        """Stop; when asked again make the host stop its steps at once, in stages; the next time kill everything."""
        if not self._over.is_set():
            self._over.set()
        elif not self._hurry.is_set():
            self._reporter.stopping(hurried=True)
            self._hurry.set()
        else:
            self._kill.set()

    async def run(self) -> None:
        """Start both parts and show events until somebody asks to stop.

        :raises PartFailed: when a part ends and a restart would not help
        """
        if await self.start() is not None:  # if it fails, nobody's steps are waited for
            self._spawn(self._show_events())
            self.start_beside()
            await self._over.wait()
        self._reporter.stopping(hurried=False)
        if self._failure is not None:
            raise self._failure

    async def start(self) -> Ready | None:
        """Start both parts and return once the kernel answers and the host is attached; None if asked to stop before.

        :raises PartFailed: if one of them ends before that
        """
        ready = await self._unless_over(self._start())
        if ready is not None:
            self._reporter.ready(ready)
        return ready

    def start_beside(self) -> None:
        """Start the console and the alerts, if there are to be any, and report each once it is ready."""
        for part in self._beside:
            self._spawn(self._keep_beside(part))
            self._spawn(self._report_beside(part))

    async def _start(self) -> Ready:
        begun = time.monotonic()
        self._spawn(self.kernel.keep_running())
        async with self.client() as client:
            kernel = await self._kernel_ready(client)
            answered = time.monotonic()
            self._spawn(self.host.keep_running())
            host = await self._host_ready(client)
            ready = Ready(
                project=self._project,
                address=self.address.addresses()[0],
                kernel=kernel,
                kernel_pid=self.kernel.pid,
                host=host,
                catalogue=await client.list_jobs(),
                kernel_seconds=answered - begun,
                host_seconds=time.monotonic() - answered,
                host_pid=self.host.pid,
            )
        return ready if ready.serves else replace(ready, host_tail=tuple(self.host.tail()))

    async def stop(self) -> None:
        """Drain the host, then stop the console, the alerts and the kernel. May be called twice."""
        self._over.set()
        await self.host.stop(deadline=self._drain_seconds, hurry=self._hurry, kill=self._kill)
        for part in self._beside:
            await part.stop(deadline=_CONSOLE_STOP_SECONDS, hurry=self._hurry, kill=self._kill)
        await self.kernel.stop(deadline=_KERNEL_STOP_SECONDS, hurry=self._hurry, kill=self._kill)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # a failure during a stop is no news

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()
            self._over.set()

    async def _unless_over(self, work: Coroutine[Any, Any, R]) -> R | None:
        """Return the result of some work; None if somebody asks to stop before it is done.

        :raises PartFailed: if a part fails before it is done
        """
        task, over = asyncio.create_task(work), asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({task, over}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            for each in (task, over):
                each.cancel()
            await asyncio.gather(task, over, return_exceptions=True)
        if self._failure is not None:
            raise self._failure
        return None

    async def _kernel_ready(self, client: KernelClient) -> KernelView:
        # An older kernel may still answer at the address in the file: only ours counts. On PostgreSQL ours may stand
        # by, and redirects us to the leader; if that one is out of reach, we wait until ours leads.
        said = ""
        while True:
            try:
                kernel: KernelView = await client.get_kernel()
            except ClientError as error:
                if error.reason != "NOT_LEADER":
                    raise
                self.kernel.proven = True
                if said != str(error):
                    self._reporter.kernel_stands_by(self.kernel.pid, error)
                said = str(error)
                await asyncio.sleep(_ASK_AGAIN)
                continue
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

    async def _keep_beside(self, part: Part) -> None:
        """Keep a part running that the others go on without."""
        try:
            await part.keep_running()
        except PartFailed as error:
            self._reporter.part_failed(error)

    async def _report_beside(self, part: Part) -> None:
        """Report the console or the alerts once they are ready, which is when the file with their address is new.

        That may take long: one that fails is started again, until there is room on the disk, say.
        """
        begun, since = time.monotonic(), time.time()
        file = self._project / ".nomaflow" / _ADDRESS_FILES[part.name]
        while True:
            told = _words_of(file, since)
            if part.pid and told:
                part.proven = True
                seconds = time.monotonic() - begun
                if part.name == "alerts":
                    self._reporter.alerts_ready(part.pid, seconds=seconds)
                else:
                    link = await self._console_link() if self._reporter.shows_links else ""
                    self._reporter.console_ready(part.pid, told[0], link=link, seconds=seconds)
                return
            await asyncio.sleep(_POLL if time.monotonic() - begun < _BESIDE_SOON_SECONDS else _ASK_AGAIN)

    async def _console_link(self) -> str:
        """Return a new login link of the console; empty if none can be made."""
        command = part_command("console", self._project, "link")
        maker = await asyncio.create_subprocess_exec(
            *command, stdin=_NOTHING, stdout=asyncio.subprocess.PIPE, stderr=_NOTHING
        )
        output, _ = await maker.communicate()
        return output.decode("utf-8", "replace").strip() if maker.returncode == 0 else ""

    async def _show_events(self) -> None:
        """Show events. If the kernel refuses to send them, the parts still run, and the kernel is asked again."""
        seen, said = 0, ""
        while True:
            try:
                async with self.client() as client, telling_trouble(client, self._reporter.trouble):
                    async for event in client.watch_events(after_seq=seen):
                        seen, said = event.seq, ""
                        self._reporter.event(event)
                        if event.kind == "host.manifest":
                            await self._show_problems(client, event)
            except ClientError as error:
                if error.reason == "CURSOR_AHEAD":
                    seen = 0  # the history is another one by now: continue from its present
                    continue
                if said != str(error):
                    self._reporter.events_withheld(error)
                said = str(error)
            await asyncio.sleep(_ASK_AGAIN)

    async def _show_problems(self, client: KernelClient, event: EventView) -> None:
        """Show what is wrong with the jobs of a new manifest."""
        if event.data.get("disabled_job_ids"):
            self._reporter.disabled(event, (await client.list_jobs(conditions=["DISABLED"])).jobs)
        self._reporter.warnings(event, (await client.list_jobs(host=event.host)).jobs)

    def _notify(self, notice: PartNotice) -> None:
        [part] = (each for each in (self.kernel, self.host, *self._beside) if each.name == notice.name)
        if notice.state is PartState.STARTED and not part.proven:
            return  # The first start screen shows it.
        self._reporter.part(notice, tail=part.tail() if notice.state is PartState.CRASHED else [])


def _words_of(file: Path, since: float) -> list[str]:
    """Return the words in a file that was written since then; none if there is no such file."""
    try:
        if file.stat().st_mtime >= since:
            return file.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        pass
    return []
