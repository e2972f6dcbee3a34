"""Starts the product as its users do: kernel, host and command line as processes of their own, on real projects."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import grpc
import psutil

import forked_templates
from cli_command import CLI_MODULES, Answer, run_command
from nomaflow.client import ProjectAddress, SyncKernelClient
from nomaflow.client.values import HostView, InstanceView, RunView
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from processes import is_alive, pids_below
from waiting import PATIENCE
from warm_start import Forked, as_at_start, fork

__all__ = [
    "CLOCKS", "PATIENCE", "PROGRAMS", "Running", "System", "address_of", "eventually", "free_ports", "launch",
    "launch_kernel", "launch_up", "nothing_left", "run_to_end",
]  # fmt: skip

CLOCKS = ("--heartbeat-seconds", "0.5", "--lease-seconds", "2", "--lost-after-seconds", "10")
"""Short clocks of a kernel: heartbeat 0.5, lease 2, grace 10, to which it adds 5 seconds."""
PROGRAMS = {
    "nomaflow_kernel": (
        "nomaflow_kernel.app", "nomaflow_kernel.store.sqlite",
        "nomaflow_project.models.settings_file:KernelSection", "google.protobuf.descriptor_pb2", "grpc._utilities",
        "pydantic.dataclasses", "uvloop", "watchfiles", "anyio._backends._asyncio",
    ),
    "nomaflow_host": (
        forked_templates.__file__, "nomaflow_host.app", "nomaflow_host.process.instance_flags",
        "nomaflow_project.connectors.reading", "nomaflow_project.jobs.load",
        "nomaflow_project.models.settings_file:HostSection", "nomaflow.client.enrolment", "cryptography.x509",
        "google.protobuf.descriptor_pb2", "pydantic.dataclasses", "uvloop",
    ),
    "nomaflow_alerts": (
        "nomaflow_alerts.app", "nomaflow_alerts.settings", "nomaflow_alerts.channels.webhook",
        "nomaflow_project.models.alerts_section:AlertsSection", "google.protobuf.descriptor_pb2", "encodings.idna",
        "argparse", "uvloop",
    ),
    "nomaflow_console": (
        "nomaflow_console.serving", "nomaflow_console.settings",
        "nomaflow_project.models.console_section:ConsoleSection", "google.protobuf.descriptor_pb2", "argparse",
        "getpass", "uvloop",
    ),
}  # fmt: skip
"""Programs that are forked, and the modules that import nearly all that they need."""
T = TypeVar("T")


def eventually(question: Callable[[], T], *, seconds: float = PATIENCE) -> T:
    """Return the first true answer to a question, which is asked more and more rarely: answers cost CPU."""
    until, pause = time.monotonic() + seconds, 0.01
    while not (answer := question()):
        assert time.monotonic() < until, f"still not so: {question}"
        time.sleep(pause)
        pause = min(pause * 1.25, 0.1)
    return answer


_PORTS_OF_A_WORKER = 500
_LOWEST_PORT = 16_384
_ports = itertools.count(os.getpid())


def free_ports(count: int) -> int:
    """Return the first of so many ports of 127.0.0.1 in a row that nobody listens on.

    They are below those that the system gives away by itself, and each worker of pytest has a range of its own.
    An answer takes the next ones there, so that nobody else gets them before their use.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        offset = min([next(_ports) for _ in range(count)]) % (_PORTS_OF_A_WORKER - count)
        first = _LOWEST_PORT + worker * _PORTS_OF_A_WORKER + offset
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


@dataclass(kw_only=True)
class Running:
    """A process of the product, with everything below it.

    :param log_file: takes its output, after that of an earlier one
    """

    project: Path
    process: subprocess.Popen[bytes] | Forked
    log_file: Path

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def log(self) -> str:
        """The output so far."""
        return self.log_file.read_text("utf-8", "replace")

    @property
    def ended(self) -> bool:
        """True if it has ended."""
        return self.process.poll() is not None

    def tree(self) -> set[int]:
        """Return the processes below it."""
        return set(pids_below(self.pid))

    @property
    def oldest_below(self) -> int:
        """The oldest process below it, which is a host's reaper. Numbers tell no age: they begin anew at the limit."""
        return pids_below(self.pid)[0]

    def kill(self) -> None:
        """Kill the process; what is below it is its own business."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM, *, again_after: float | None = None) -> int:
        """End it, frozen or not, and return its exit code; nothing of it is left.

        :param again_after: seconds after which it is asked once more; None for never
        """
        if not self.ended:
            below = self.tree()
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, number)
            try:
                if again_after is not None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.process.wait(again_after)
                    self.process.send_signal(number)
                self.process.wait(PATIENCE)
            finally:
                self.kill()  # nothing of a failed test may be left
            eventually(lambda: not any(is_alive(pid) for pid in below))
        code = self.process.returncode
        assert code is not None
        return code


def launch(
    module: str,
    project: Path,
    *flags: str,
    log_file: Path,
    environ: Mapping[str, str] | None = None,
    side: Sequence[str] = (),
    python: str = sys.executable,
) -> Running:
    """Start the kernel or a host on its project, and wait for nothing.

    :param environ: what its environment has in addition to that of the tests
    :param side: command that starts another, for example in another network
    """
    program = [module, "--project", str(project), *flags]
    env = {**os.environ, **(environ or {})}
    if side or python != sys.executable or module not in PROGRAMS or not as_at_start(env):
        return _start([*side, python, "-P", "-m", *program], project, log_file, env)
    with log_file.open("ab") as log:
        return Running(project=project, process=_fork(program, env, log), log_file=log_file)


def run_to_end(*program: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a part that ends by itself; return its exit code and its output.

    :param program: its module and its arguments
    """
    env = {**os.environ, **(environ or {})}
    with tempfile.TemporaryFile() as log:
        process: subprocess.Popen[bytes] | Forked
        if as_at_start(env):
            process = _fork(program, env, log)
        else:
            process = subprocess.Popen([sys.executable, "-P", "-m", *program], stdout=log, stderr=log, env=env)
        try:
            code = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        return code, log.read().decode()


def _fork(program: Sequence[str], env: Mapping[str, str], log: IO[bytes]) -> Forked:
    with Path(os.devnull).open("rb") as nothing:
        modules = CLI_MODULES if program[0] == "nomaflow_cli" else PROGRAMS[program[0]]
        return fork(program, modules=modules, cwd=Path.cwd(), env=env, streams=(nothing, log, log))


def launch_up(project: Path, *flags: str, log_file: Path, environ: Mapping[str, str] | None = None) -> Running:
    """Start ``nomaflow up`` on a project, and wait for nothing."""
    program, env = ["nomaflow_cli", "up", str(project), *flags], {**os.environ, **(environ or {})}
    if not as_at_start(env):
        return _start([sys.executable, "-m", *program], project, log_file, env)
    with log_file.open("ab") as log:
        return Running(project=project, process=_fork(program, env, log), log_file=log_file)


def _start(command: Sequence[str], project: Path, log_file: Path, env: Mapping[str, str]) -> Running:
    with log_file.open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
    return Running(project=project, process=process, log_file=log_file)


def launch_kernel(
    project: Path, *flags: str, log_file: Path, module: str = "nomaflow_kernel", **options: Any
) -> Running:
    """Start a kernel on its project and wait until it says where it listens.

    :param options: see :func:`launch`
    """
    address = project / ".nomaflow" / "address"
    address.unlink(missing_ok=True)
    kernel = launch(module, project, *flags, log_file=log_file, **options)
    eventually(lambda: address.exists() or kernel.ended)
    assert not kernel.ended, f"the kernel ended with {kernel.process.returncode}: {kernel.log}"
    return kernel


def address_of(project: Path) -> str:
    """Return where the kernel of a project listens."""
    return (project / ".nomaflow" / "address").read_text().strip()


def nothing_left(folder: Path) -> bool:
    """Return True if no process has a folder in its command line."""
    return not [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]


@dataclass(kw_only=True)
class System:
    """A kernel, its hosts, and a client of it.

    :param root: everything is below it
    :param kernel_project: the kernel's folder, ``kernel`` below *root* unless it is given
    :param kernel_side: command that starts the kernel, for example in another network
    :param environ: what the environment of all processes has in addition to that of the tests
    :param forks_templates: True if reapers and templates start in processes that have imported what they need
    :ivar parts: the running processes by name: ``kernel``, and the hosts
    """

    root: Path
    kernel_project: Path = field(default=None)  # type: ignore[assignment]  # set below
    kernel_flags: Sequence[str] = CLOCKS
    kernel_side: Sequence[str] = ()
    kernel_module: str = "nomaflow_kernel"
    environ: Mapping[str, str] = field(default_factory=dict)
    forks_templates: bool = False
    parts: dict[str, Running] = field(default_factory=dict)
    clients: list[SyncKernelClient] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kernel_project = self.kernel_project or self.root / "kernel"
        self.kernel_project.mkdir(parents=True, exist_ok=True)

    def start_kernel(self, *flags: str, environ: Mapping[str, str] | None = None) -> Running:
        """Start the kernel and wait until it listens."""
        self.parts["kernel"] = launch_kernel(
            self.kernel_project,
            *self.kernel_flags,
            *flags,
            log_file=self.root / "kernel.log",
            environ={**self.environ, **(environ or {})},
            side=self.kernel_side,
            module=self.kernel_module,
        )
        return self.parts["kernel"]

    def join_file(self, host: str, *, uses: int = 1, seconds: int = 600) -> Path:
        """Return a new file with a join string for a host, made by the owner.

        :param uses: how often it can be used
        :param seconds: how long it can be used
        """
        with grpc.insecure_channel(self.kernel_address) as channel:
            request = access.CreateTokenRequest(
                kind=access.TOKEN_KIND_HOST, name=host, joins=True, uses=uses, lifetime_seconds=seconds
            )
            made = AccessServiceStub(channel).CreateToken(request, timeout=PATIENCE)
        file = self.root / f"join-{host}-{len(list(self.root.glob('join-*')))}"
        file.touch(mode=0o600)
        file.write_text(made.secret + "\n")
        return file

    @property
    def kernel(self) -> Running:
        """The kernel's process."""
        return self.parts["kernel"]

    @property
    def kernel_address(self) -> str:
        """The address at which the kernel listens."""
        return address_of(self.kernel_project)

    def launch_host(
        self, name: str, project: Path, *flags: str, environ: Mapping[str, str] | None = None, **options: Any
    ) -> Running:
        """Start a host on a project, and wait for nothing.

        :param options: see :func:`launch`
        """
        options["environ"] = {**self.environ, **(environ or {})}
        if self.forks_templates:
            options["environ"][forked_templates.FORK_TEMPLATES] = "1"
        log_file = self.root / f"{name}.log"
        self.parts[name] = launch("nomaflow_host", project, *flags, log_file=log_file, **options)
        return self.parts[name]

    def log(self, name: str) -> str:
        """Return the output of a process and of those before it."""
        return (self.root / f"{name}.log").read_text("utf-8", "replace")

    def kill(self, name: str) -> None:
        """Kill a process with SIGKILL."""
        self.parts.pop(name).kill()

    def stop(self, name: str) -> None:
        """Ask a process to stop, and check that it does so without an error."""
        part = self.parts.pop(name)
        assert part.stop() == 0, part.log

    def client(self, by: str = "ann") -> SyncKernelClient:
        """Return a new client, which is closed with the system."""
        self.clients.append(SyncKernelClient(ProjectAddress(project=self.kernel_project), by=by))
        return self.clients[-1]

    @property
    def api(self) -> SyncKernelClient:
        """The first client."""
        return self.clients[0] if self.clients else self.client()

    def cli(self, *arguments: str, code: int | None = 0, stdin: str = "") -> Answer:
        """Run the command line in the kernel's folder; ``code`` None takes any exit code."""
        done = run_command(*arguments, folder=self.kernel_project, stdin=stdin, environ=self.environ)
        assert code is None or done.code == code, (arguments, done)
        return done

    def host_view(self, name: str) -> HostView | None:
        """Return what the kernel knows of a host."""
        return next((one for one in self.api.list_hosts() if one.name == name), None)

    def instance(self, name: str, *, pid: int = 0) -> InstanceView | None:
        """Return the attached instance of a host that serves a generation, or None if there is none yet."""
        view = self.host_view(name)
        for one in view.instances if view else ():
            if one.state == "ATTACHED" and one.generation and pid in (0, one.pid):
                return one if view is not None and view.manifest_digest else None
        return None

    def run(self, run_id: str) -> RunView:
        """Return the current run."""
        return self.api.get_run(run_id)

    def end(self, run_id: str) -> RunView:
        """Wait until a run is over."""
        return self.api.wait(run_id)

    def close(self) -> None:
        """Stop everything, whatever fails meanwhile; nothing may be left."""
        with contextlib.ExitStack() as stack:
            if "kernel" in self.parts:
                stack.callback(self.parts.pop("kernel").kill)
            for client in self.clients:
                stack.callback(client.close)
            for part in self.parts.values():
                # A host lets steps go on for as long as a test waits, unless it is asked twice.
                stack.callback(part.stop, again_after=2.0)
