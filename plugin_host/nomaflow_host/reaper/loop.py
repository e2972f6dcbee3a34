"""The reaper's loop."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import Any

from nomaflow_api.private_memory import keep_memory_private
from nomaflow_host.channel.frames import Frame, FrameError, FrameSocket, frame_pair
from nomaflow_host.reaper.children import Child, Exit, Template, Worker
from nomaflow_host.reaper.other_user import OtherUser
from nomaflow_host.reaper.proc import (
    ProcessIdentity,
    become_subreaper,
    descendants,
    kill_trees,
    own_children,
    processes,
    read_process,
)
from nomaflow_host.reaper.spawning import spawn_module
from nomaflow_host.reaper.tree_limits import CgroupTree, Limits, delegated_cgroup, over_limits

_SAMPLE_SECONDS = 0.5
_SWEEP_SECONDS = 0.02
_FORK_SECONDS = 10.0
_FRESH_SECONDS = 1.0
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


class Reaper:
    """The parent of every template and worker of one host.

    :param link: the connection to the host's main process
    :param wakeup: a non-blocking descriptor that becomes readable on SIGCHLD
    """

    def __init__(self, *, link: FrameSocket, wakeup: int) -> None:
        self._link = link
        self._wakeup = wakeup
        self._workers: dict[int, Worker] = {}
        self._templates: dict[int, Template] = {}
        self._unclaimed: dict[int, Exit] = {}
        self._waiting: list[Frame] = []
        self._limits = Limits()
        self._user: OtherUser | None = None
        self._cgroups: str | None = None
        self._forking_since = 0.0
        self._next_sample = 0.0
        self._strays: dict[int, float] = {}

    def run(self) -> None:
        """Serve until the host's main process is gone, then kill everything below and return."""
        try:
            while not self._link.ended:
                self._turn(self._timeout())
        finally:
            self._kill_everything()

    def _turn(self, timeout: float | None) -> None:
        links = {self._link.fileno(): self._link, **{t.link.fileno(): t.link for t in self._templates.values()}}
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        for fd, link in links.items():
            poll.register(fd, select.POLLIN | (select.POLLOUT if link.pending else 0))
        ready = dict(poll.poll(None if timeout is None else timeout * 1000))
        if self._wakeup in ready:
            _empty(self._wakeup)
        for link in links.values():
            link.flush()
        self._read_templates(ready)
        self._collect()
        if self._link.fileno() in ready:
            for frame in self._link.receive():
                self._take(frame)
        self._sample()
        self._check_forks()
        self._report_exits()

    def _timeout(self) -> float | None:
        if self._sweeping:
            return _SWEEP_SECONDS
        sampling = self._limits.any and self._cgroups is None and self._workers
        if sampling or any(child.outlived_by for child in self._children):
            return _SAMPLE_SECONDS
        return _FORK_SECONDS if self._forking else None

    # --- commands of the main process -----------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        """Carry out a command. Starts wait during a sweep of the dead, or a new process would be taken for a stray."""
        message = frame.message
        match message["is"]:
            case "bootstrap":
                self._bootstrap(message)
            case _ if self._must_wait(frame):
                self._waiting.append(frame)
            case "spawn":
                self._spawn(frame)
            case "start_template":
                self._start_template(frame)
            case "stop_template":
                self._stop_template(message["template"])
            case "signal":
                self._signal(message["worker"], message["signum"])
            case "signal_children":
                self._signal_children(message["worker"], message["signum"])
            case "kill_tree":
                self._kill_worker(message["worker"])

    def _must_wait(self, frame: Frame) -> bool:
        """Return True if a command must wait for the sweep: it starts a process, or concerns one whose start waits."""
        message, waiting = frame.message, [each.message for each in self._waiting]
        if message["is"] == "stop_template":
            return any(each["is"] == "start_template" and each["template"] == message["template"] for each in waiting)
        if "worker" in message and any(each.get("worker") == message["worker"] for each in waiting):
            return True
        return message["is"] in ("spawn", "start_template") and self._sweeping

    def _bootstrap(self, message: dict[str, Any]) -> None:
        self._limits = Limits(*message["limits"])
        if message["user"] is not None:
            self._user = OtherUser(*message["user"])
        if self._limits.any:
            self._cgroups = delegated_cgroup()
        mechanism = "cgroup" if self._cgroups is not None else "sampling"
        self._link.send({"is": "ready", "mechanism": mechanism})

    def _start_template(self, frame: Frame) -> None:
        number, (control, output) = frame.message["template"], frame.fds
        link, there = frame_pair()
        try:
            with there:
                pid = spawn_module(
                    "nomaflow_host.template",
                    out=output,
                    err=output,
                    fds=(control, there.fileno()),
                    environ=frame.message["environ"],
                    user=self._user,
                )
        except (OSError, ValueError) as error:
            link.close()
            self._link.send({"is": "template_exited", "template": number, "error": str(error)})
            return
        finally:
            frame.close()
        self._templates[number] = Template(number=number, process=ProcessIdentity.of(pid), link=link)
        self._link.send({"is": "template_started", "template": number, "pid": pid})

    def _stop_template(self, number: int) -> None:
        template = self._templates.get(number)
        if template is not None and template.running:
            template.killed = True
            kill_trees([template.running])

    def _spawn(self, frame: Frame) -> None:
        worker = Worker(number=frame.message["worker"], template=frame.message["template"])
        self._workers[worker.number] = worker
        if worker.template is not None:
            self._fork(worker, frame)
            return
        out, err, *fds = frame.fds
        try:
            environ = frame.message["environ"]
            pid = spawn_module("nomaflow_host.worker", out=out, err=err, fds=fds, environ=environ, user=self._user)
        except (OSError, ValueError) as error:
            self._spawn_failed(worker.number, str(error))
            return
        finally:
            frame.close()
        self._spawned(worker, pid)

    def _fork(self, worker: Worker, frame: Frame) -> None:
        template = self._templates.get(worker.template or 0)
        if template is None or template.running is None:
            frame.close()
            self._spawn_failed(worker.number, "its template has ended")
            return
        if not self._forking:
            self._forking_since = time.monotonic()
        template.forking.add(worker.number)
        if self._user is not None:
            self._user.own(*frame.fds[:2])
        template.link.send({"is": "fork", "worker": worker.number}, frame.fds)
        template.running.signal(signal.SIGCONT)  # code may have frozen it

    def _signal(self, number: int, signum: int) -> None:
        worker = self._workers.get(number)
        if worker is not None and worker.running:
            worker.running.signal(signum)

    def _signal_children(self, number: int, signum: int) -> None:
        worker = self._workers.get(number)
        if worker is not None and worker.running:
            for info in descendants([worker.pid], processes()):
                info.identity.signal(signum)

    def _kill_worker(self, number: int) -> None:
        worker = self._workers.get(number)
        if worker is None or worker.exit is not None:
            return
        if worker.process is None:
            worker.doomed = True
            return
        info = read_process(worker.pid)
        # A process that is already exiting keeps its own cause of death.
        worker.killed = worker.killed or info is None or not info.exiting
        kill_trees([worker.process])

    # --- answers of templates -------------------------------------------------------------------------------------

    @property
    def _forking(self) -> bool:
        return any(template.forking and template.running for template in self._templates.values())

    def _read_templates(self, ready: dict[int, int]) -> None:
        for template in list(self._templates.values()):
            if template.link.fileno() not in ready:
                continue
            try:
                for frame in template.link.receive():
                    self._forked(template, frame.message)
            except (FrameError, KeyError, TypeError):  # plugin code has written to the socket
                self._stop_template(template.number)
            if template.link.ended:
                self._stop_template(template.number)

    def _forked(self, template: Template, message: dict[str, Any]) -> None:
        number = message["worker"]
        template.forking.remove(number)
        self._forking_since = time.monotonic()
        worker = self._workers[number]
        if "error" in message:
            self._spawn_failed(number, message["error"])
        elif self._is_child(message.get("pid")):
            self._spawned(worker, message["pid"])
        else:  # plugin code has written to the socket: a process that is not ours must never get our signals
            self._spawn_failed(number, "its template named a process that it has not started")
            self._stop_template(template.number)

    def _is_child(self, pid: object) -> bool:
        """Return True if a process is a child of this one that has no name yet, living or collected."""
        if not isinstance(pid, int):
            return False
        info = read_process(pid)
        mine = info is not None and info.parent == os.getpid() and pid not in {each.pid for each in self._children}
        return mine or pid in self._unclaimed

    def _spawned(self, worker: Worker, pid: int) -> None:
        worker.exit = self._unclaimed.pop(pid, None)
        worker.process = ProcessIdentity.of(pid)
        if self._cgroups is not None and worker.exit is None:
            try:
                worker.cgroup = CgroupTree(
                    f"{self._cgroups}/nomaflow-worker-{os.getpid()}-{worker.number}", self._limits
                )
                worker.cgroup.add(pid)
            except OSError:
                worker.doomed = True  # a worker without its limits must not run
        if worker.doomed:
            self._kill_worker(worker.number)
        self._link.send({"is": "spawned", "worker": worker.number, "pid": pid})

    def _spawn_failed(self, number: int, error: str) -> None:
        self._workers.pop(number, None)
        self._link.send({"is": "spawn_failed", "worker": number, "error": error})

    def _check_forks(self) -> None:
        if time.monotonic() - self._forking_since < _FORK_SECONDS:
            return
        for template in self._templates.values():
            if template.forking:
                self._stop_template(template.number)

    @property
    def _children(self) -> list[Child]:
        return [*self._workers.values(), *self._templates.values()]

    # --- the dead -------------------------------------------------------------------------------------------------

    @property
    def _sweeping(self) -> bool:
        return any(child.over for child in self._children)

    def _collect(self) -> None:
        """Wait for all children that ended."""
        by_pid = {child.pid: child for child in self._children if child.process}
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = by_pid.get(pid)
            ended = Exit.from_wait(status, usage)
            if child is not None:
                child.exit = ended
            elif self._forking:
                self._unclaimed[pid] = ended

    def _report_exits(self) -> None:
        """Report an exit once nothing is left of its descendants: their orphans are this process's children now.

        An orphan that outlives SIGKILL, as on a disk that is away, holds up no process that ends or starts later.
        """
        ended = [child for child in self._children if child.exit is not None]
        if not ended or self._forking:
            return
        now = time.monotonic()
        strays = set(own_children()) - {child.pid for child in self._children}
        self._strays = {pid: self._strays.get(pid, now) for pid in strays}
        # Nothing tells whose an orphan was: each that has ended about when it was found waits for it.
        if fresh := {pid for pid, since in self._strays.items() if now - since < _FRESH_SECONDS}:
            kill_trees(map(ProcessIdentity.of, fresh))
        for child in ended:
            child.outlived_by = (child.outlived_by | fresh) & strays
        self._unclaimed.clear()
        for worker in [w for w in self._workers.values() if w.over]:
            del self._workers[worker.number]
            self._report_worker(worker)
        for template in [t for t in self._templates.values() if t.over]:
            del self._templates[template.number]
            template.link.close()
            for number in template.forking:
                self._spawn_failed(number, "its template ended while it was forking")
            self._link.send({"is": "template_exited", "template": template.number, **template.exit_json()})
        waiting, self._waiting = self._waiting, []
        for frame in waiting:
            self._take(frame)

    def _report_worker(self, worker: Worker) -> None:
        cause = worker.cause
        if worker.cgroup is not None:
            cause = cause or worker.cgroup.cause()
            worker.cgroup.remove()
        self._link.send({"is": "exited", "worker": worker.number, "cause": cause, **worker.exit_json()})

    def _sample(self) -> None:
        now = time.monotonic()
        if not self._limits.any or self._cgroups is not None or now < self._next_sample:
            return
        self._next_sample = now + _SAMPLE_SECONDS
        alive = {worker.pid: worker for worker in self._workers.values() if worker.running and not worker.killed}
        for pid, cause in over_limits(self._limits, alive).items():
            alive[pid].cause = cause
            self._kill_worker(alive[pid].number)

    def _kill_everything(self) -> None:
        """Kill all children and their orphans, until there is none."""
        while pids := own_children():
            kill_trees(map(ProcessIdentity.of, pids))
            select.select([self._wakeup], [], [], _SWEEP_SECONDS)
            _empty(self._wakeup)
            self._collect()
        for worker in self._workers.values():
            if worker.cgroup is not None:
                worker.cgroup.remove()


def _empty(fd: int) -> None:
    try:
        while len(os.read(fd, 4096)) == 4096:
            pass
    except BlockingIOError:
        return


def main(control: int) -> int:
    """Run a reaper on the descriptor *control* and return its exit code."""
    keep_memory_private()
    for signum in _IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    wakeup, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
    become_subreaper()
    link = FrameSocket(socket.socket(fileno=control), takes_fds=True)
    os.set_inheritable(control, False)  # noqa: FBT003  # the standard library's own signature
    Reaper(link=link, wakeup=wakeup).run()
    return 0
