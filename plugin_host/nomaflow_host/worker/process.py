"""The worker's process: its setup, its event loop and its connection to the host's main process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from msgspec.structs import replace

from nomaflow_api.v1.sealing import fitting, open_checked_steps, open_order, seal
from nomaflow_host.attempt.masking import WorkerMasker
from nomaflow_host.channel.async_link import AsyncLink
from nomaflow_host.channel.frames import Frame, FrameError, FrameSocket, first_frames
from nomaflow_host.channel.packed_frames import PackedFrameSocket
from nomaflow_host.channel.ring.page import RingPage
from nomaflow_host.channel.ring.writer import RingWriter
from nomaflow_host.compat import install_liberty_aliases
from nomaflow_host.generation.generation import Generation, load_generation
from nomaflow_host.generation.spec import ProjectSpec
from nomaflow_host.injection.reference_values import GivenValues
from nomaflow_host.reaper.proc import become_subreaper, die_with_parent, read_process
from nomaflow_host.reaper.spawning import FIRST_FD
from nomaflow_host.reaper.tree_limits import be_killed_first
from nomaflow_host.worker.attempt_run import AttemptRun, WorkerServices
from nomaflow_host.worker.capture import install_log_capture, keep_warning_filters, set_log_level, show_warnings_again
from nomaflow_host.worker.emitter import Emitter
from nomaflow_host.worker.forks import WorkerLoop, cut_off_forks, end_fork
from nomaflow_host.worker.scope import CURRENT, AttemptScope
from nomaflow_host.worker.signals import install_signals
from nomaflow_host.worker.source_snapshot import serve_sources
from nomaflow_host.worker.streams import WorkerStreams
from nomaflow_host.worker.task_isolation import OwnTask, hide_other_tasks
from nomaflow_host.worker.tracking import install_tracking
from nomaflow_host.worker.unawaited import install_unawaited_capture
from nomaflow_project.connectors.connector_set import ConnectorSet
from nomaflow_project.reading.worker_environment import credentials_in

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from nomaflow_api.v1.letters import AttemptOrder

_BEAT_SECONDS = 0.25
_Task = asyncio.Task  # the original, before any plugin patches it
_INFO = 20
_MAX_PROBLEMS = 100


class WorkerChannels(NamedTuple):
    """The descriptors that connect a worker to its host's main process; 1 and 2 are pipes to it as well."""

    control: int
    ring: int
    doorbell: int
    room: int
    dump: int

    @classmethod
    def inherited(cls) -> WorkerChannels:
        """Return the channels of a fresh interpreter."""
        channels = cls(*range(FIRST_FD, FIRST_FD + 5))
        for fd in channels:
            os.set_inheritable(fd, False)  # noqa: FBT003  # the standard library's own signature
        return channels


class _Worker:
    """Takes orders from the control connection and runs them on this thread's event loop."""

    def __init__(self, services: WorkerServices) -> None:
        self._loop = services.loop
        self._services = services
        self._runs: dict[int, AttemptRun] = {}
        self._tasks: dict[int, OwnTask] = {}
        self._leaving: OwnTask | None = None
        self._levels: Counter[int] = Counter()
        self._beating = False

    def take(self, frame: Frame) -> None:
        """Carry out the command in a frame."""
        message = frame.message
        run = self._runs.get(message.get("slot", -1))
        match message["is"]:
            case "run":
                self._run(message["slot"], open_order(frame.letter), message["traceparent"])
            case "check":
                self._check(message["number"], frame.letter)
            case "stacks":
                stacks = [] if run is None else run.stacks()
                self._services.link.send({"is": "stacks", "number": message["number"], "stacks": stacks})
            case "shutdown":
                self._leaving = OwnTask(self._shut_down(), loop=self._loop)
            case _ if run is None:
                pass  # the attempt has ended
            case "cancel":
                run.ask_to_stop()
            case "signal_processes":
                run.signal_processes(message["signum"])
            case "values":
                run.take_values(GivenValues.from_json(message["values"], own=self._services.environ))

    def scopes(self) -> list[AttemptScope]:
        """Return the scopes of the running attempts, in any thread."""
        return [run.scope for run in list(self._runs.values())]

    def interrupt(self) -> None:
        """Take the second rung of the ladder, in the signal's handler, which may have interrupted the loop itself."""
        for run in list(self._runs.values()):
            run.interrupt()
            self._loop.call_soon_threadsafe(run.ask_to_stop)

    def _run(self, slot: int, order: AttemptOrder, traceparent: str) -> None:
        # Set each time, since a step may have set another.
        self._loop.set_task_factory(_tracked_task)  # type: ignore[arg-type]  # typeshed wants a generic protocol
        run = AttemptRun(
            order=order,
            slot=slot,
            traceparent=traceparent,
            services=self._services,
            is_alone=lambda: len(self._runs) == 1,
        )
        self._runs[slot] = run
        self._count_level(run.scope.level, 1)
        show_warnings_again()
        if not self._beating:
            self._beating = True
            self._beat()
        self._tasks[slot] = OwnTask(self._run_to_the_end(slot, run), loop=self._loop)

    def _check(self, number: int, steps: bytes) -> None:
        """Report the problems of values, or nothing if it fails; validators are authors' code, and may do anything."""
        generation, mask = self._services.generation, self._services.emitter.masker.now
        letter = b""
        with contextlib.suppress(BaseException):  # the attempt will report it
            found = [each for step in open_checked_steps(steps) for each in generation.check(step)]
            letter = seal([replace(each, message=fitting(mask.text(each.message))) for each in found[:_MAX_PROBLEMS]])
        self._services.link.send({"is": "checked", "number": number}, letter=letter)

    async def _run_to_the_end(self, slot: int, run: AttemptRun) -> None:
        try:
            await run.run()
        finally:
            del self._runs[slot], self._tasks[slot]
            self._count_level(run.scope.level, -1)

    def _count_level(self, level: int, change: int) -> None:
        """Set the loggers to the lowest level that any attempt wants."""
        self._levels[level] += change
        if not self._levels[level]:
            del self._levels[level]
        set_log_level(min(self._levels, default=_INFO))

    def _beat(self) -> None:
        """Show the host that the loop turns while anything runs."""
        if self._runs:
            self._services.page.beat_ns = time.monotonic_ns()
            self._loop.call_later(_BEAT_SECONDS, self._beat)
        else:
            self._beating = False
            self._services.page.beat_ns = 0

    async def _shut_down(self) -> None:
        with contextlib.suppress(Exception):  # a connection that does not close ends with the process
            await self._services.connectors.aclose()
        os._exit(0)


class _HostLink(AsyncLink):
    """The connection to the host's main process. A process that a step forked sends nothing and ends."""

    def __init__(
        self, *, link: FrameSocket, loop: asyncio.AbstractEventLoop, on_frame: Callable[[Frame], None]
    ) -> None:
        super().__init__(link=link, loop=loop, on_frame=on_frame, on_end=_leave)
        self._pid = os.getpid()

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = (), letter: bytes = b"") -> None:
        """Send a frame now, or as soon as there is room."""
        if os.getpid() != self._pid:
            end_fork(None)
        super().send(message, fds, letter)

    def send_soon(self, message: Mapping[str, Any], letter: bytes = b"") -> None:
        """Send a frame before anything that is scheduled on the loop later, together with others like it."""
        if os.getpid() != self._pid:
            end_fork(None)
        super().send_soon(message, letter)


def _leave(_error: FrameError | None) -> NoReturn:
    """End this process, because its host is gone."""
    os._exit(0)


def prepare_for_plugins() -> None:
    """Capture what code in this process logs, starts and drops. Call it once, before any plugin is imported."""
    install_log_capture()
    install_tracking()
    install_unawaited_capture()
    install_liberty_aliases()


def run_worker(channels: WorkerChannels, *, generation: Generation | None) -> NoReturn:
    """Run a worker until the host ends it.

    :param generation: the plugin code that this process has loaded; None to load the one in the bootstrap message
    """
    _become_worker()
    page = RingPage(channels.ring)
    emitter = Emitter(writer=RingWriter(page=page, doorbell=channels.doorbell, room=channels.room))
    streams = WorkerStreams(lambda: emitter.detached)
    streams.install()
    loop = WorkerLoop()
    asyncio.set_event_loop(loop)
    link = PackedFrameSocket(socket.socket(fileno=channels.control))
    cut_off_forks((loop.fileno(), *channels))
    first, *early = first_frames(link)
    bootstrap = first.message
    if bootstrap["nice"]:
        os.nice(bootstrap["nice"])
    if generation is None:
        spec = ProjectSpec.from_json(bootstrap["spec"])
        if bootstrap["sources"] is not None:
            serve_sources(bootstrap["sources"], spec.plugin_dirs)
        generation = load_generation(spec, trace_stream=sys.__stderr__ or sys.stderr)
        gc.freeze()

    to_host = _HostLink(link=link, loop=loop, on_frame=lambda frame: worker.take(frame))
    connectors = ConnectorSet.from_json(bootstrap["connectors"])
    emitter.masker = WorkerMasker({*connectors.secrets, *credentials_in(os.environ)})

    restore_warning_filters = keep_warning_filters()

    def restore() -> None:
        streams.install()
        restore_signals()
        restore_warning_filters()

    worker = _Worker(
        WorkerServices(
            loop=loop,
            link=to_host,
            page=page,
            emitter=emitter,
            streams=streams,
            restore=restore,
            generation=generation,
            connectors=generation.registry(connectors),
            environ=os.environ,
            exclusive=bootstrap["exclusive"],
        )
    )
    hide_other_tasks(worker.scopes)
    restore_signals = install_signals(page=page, dump_fd=channels.dump, interrupt=worker.interrupt)
    me = read_process(os.getpid())
    assert me is not None
    to_host.send({"is": "ready", "pid": me.pid, "rss_bytes": me.rss_bytes})
    for frame in early:
        loop.call_soon(worker.take, frame)
    _serve(loop, link)


def _serve(loop: asyncio.AbstractEventLoop, link: FrameSocket) -> NoReturn:
    try:
        while True:
            # If an author's task raises SystemExit or KeyboardInterrupt, that ends run_forever, but not this worker.
            with contextlib.suppress(SystemExit, KeyboardInterrupt, asyncio.CancelledError):
                loop.run_forever()
    except OSError:
        # A step has closed the loop's own descriptors. The host notices the end of the connection and kills the worker.
        with contextlib.suppress(OSError):
            link.close()
        while True:
            signal.pause()


def _become_worker() -> None:
    with contextlib.suppress(PermissionError):  # a fresh interpreter has its own session already
        os.setsid()
    become_subreaper()
    die_with_parent(signal.SIGKILL)
    os.umask(0o077)
    be_killed_first()
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def _tracked_task(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    """Make a task and record it in the attempt in whose context it will run."""
    task: asyncio.Task[Any] = _Task(coro, loop=loop, **options)
    context = options.get("context")
    scope = CURRENT.get() if context is None else context.get(CURRENT)
    if scope is not None and not scope.closed:
        scope.tasks.add(task)
        task.add_done_callback(scope.tasks.discard)
    return task
