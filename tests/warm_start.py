"""Starts Python programs as processes of their own, forked from one that has imported their modules once.

The imports take longer than most of what tests ask of a command, a kernel or a host. A forked process differs from a
fresh one in its command line, in what ``/proc`` says of its environment, and in what an interpreter reads as it starts.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

__all__ = ["Forked", "as_at_start", "fork"]

_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "GRPC_")
"""Beginnings of the names of variables that an interpreter, or a library, reads as it starts."""
_SET_BY_OURS = "GRPC_ENABLE_FORK_SUPPORT"
"""A variable that the client sets when it is imported, be that before this module or after it."""


def _read_at_start(environ: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(
        (name, value) for name, value in environ.items() if name.startswith(_READ_AT_START) and name != _SET_BY_OURS
    )


_AT_START = _read_at_start(os.environ)


def as_at_start(environ: Mapping[str, str]) -> bool:
    """Return True if an interpreter would start in this environment as this one has; others must start afresh."""
    return _read_at_start(environ) == _AT_START


def fork(
    program: Sequence[str],
    *,
    modules: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    streams: Sequence[IO[bytes]],
    path: str | None = None,
) -> Forked:
    """Start a module and its arguments, as ``python -m`` does.

    :param modules: what has been imported in advance; ``package.*`` stands for all modules of a package,
        ``module:Model`` for a model whose checks are made as well, which takes longer than many a program, and the path
        of a file for what it does under the name ``preloaded``, and calls as ``at_start`` in each program
    :param streams: its standard input, output and error
    :param path: first entry of its ``sys.path``; None for none, as with ``python -P``
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    order = {"program": list(program), "cwd": str(cwd), "env": dict(env), "path": path}
    with theirs, os.fdopen(os.memfd_create("order"), "wb") as letter:
        letter.write(json.dumps(order).encode())
        letter.flush()
        numbers = [letter.fileno(), *(each.fileno() for each in streams), theirs.fileno()]
        socket.send_fds(_parent(tuple(modules)).socket, [b"start"], numbers)
    return Forked(program, ours)


class Forked:
    """A process that was forked, with the members of Popen that tests use."""

    def __init__(self, program: Sequence[str], told: socket.socket) -> None:
        self._program = program
        self._told = told
        self.returncode: int | None = None
        self.pid = int(told.recv(100))

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit code.

        :raises subprocess.TimeoutExpired: if it has not ended in so many seconds
        """
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                # Without an answer its parent has been killed, as ``red_tests`` kills both.
                self.returncode = int(self._told.recv(100) or -signal.SIGKILL)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self._program, timeout or 0.0) from None
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


class _Parent:
    """The process that forks, seen from here. It ends with this one."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-P", __file__, str(theirs.fileno()), *modules]
            # The programs set this for themselves, before they import gRPC.
            environ = {**os.environ, "GRPC_VERBOSITY": "NONE"}
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environ)
        atexit.register(self.close)

    @property
    def ended(self) -> bool:
        """True if it has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End it."""
        self.socket.close()
        self._process.wait()


_PARENTS: dict[tuple[str, ...], _Parent] = {}
_STARTING = threading.Lock()


def _parent(modules: tuple[str, ...]) -> _Parent:
    """Return the process that has imported some modules. A red test may have ended it: see ``red_tests``."""
    with _STARTING:
        parent = _PARENTS.get(modules)
        if parent is None or parent.ended:
            if parent is not None:
                parent.close()
            parent = _PARENTS[modules] = _Parent(modules)
        return parent


# The process that forks.


_AT_START_OF_PROGRAMS: list[Callable[[], None]] = []


def _import_all(modules: Sequence[str]) -> None:
    gc.disable()
    for name in modules:
        if name.endswith(".py"):
            _AT_START_OF_PROGRAMS.append(runpy.run_path(name, run_name="preloaded")["at_start"])
            continue
        name, _, model = name.partition(":")
        found = importlib.import_module(name.removesuffix(".*"))
        if model:
            importlib.import_module("nomaflow_project.reading.validation")._adapter(getattr(found, model))
        if name.endswith(".*"):
            for one in pkgutil.walk_packages(found.__path__, f"{found.__name__}."):
                if not one.name.endswith("__main__"):
                    importlib.import_module(one.name)
    gc.freeze()
    gc.enable()


def _serve(control: socket.socket) -> list[int] | None:
    """Fork a process for each order, and tell its number and then its end.

    :return: the descriptors of an order, in the process that is forked for it; None once there are no more orders
    """
    running: dict[int, tuple[int, int]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    selector.unregister(key.fd)
                    _tell_end(key.fd, *running.pop(key.fd))
                    continue
                _, numbers, _, _ = socket.recv_fds(control, 16, 5)
                if not numbers:
                    return None
                pid = os.fork()
                if not pid:
                    return numbers
                *given, told = numbers
                os.write(told, b"%d" % pid)
                for number in given:
                    os.close(number)
                watched = os.pidfd_open(pid)
                running[watched] = pid, told
                selector.register(watched, selectors.EVENT_READ)


def _tell_end(watched: int, pid: int, told: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        os.write(told, b"%d" % code)
    os.close(told)
    os.close(watched)


def _become(letter: int, *streams: int) -> None:
    """Turn into the ordered program, and end with it."""
    with os.fdopen(os.dup(letter), "rb") as file:
        file.seek(0)
        order = json.load(file)
    for standard, number in enumerate(streams):
        os.dup2(number, standard)
    os.closerange(3, 65_536)
    sys.stdin, sys.stdout, sys.stderr = (
        open(  # noqa: SIM115  # as the interpreter opens them
            each.fileno(), each.mode, 1 if each is sys.stderr else -1, each.encoding, each.errors, closefd=False
        )
        for each in (sys.stdin, sys.stdout, sys.stderr)
    )
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    if order["path"] is not None:
        sys.path.insert(0, order["path"])
    module, *arguments = order["program"]
    sys.argv[1:] = arguments
    sys.orig_argv[1:] = [*(["-P"] if order["path"] is None else []), "-m", module, *arguments]
    for each in _AT_START_OF_PROGRAMS:
        each()
    os._exit(_exit_code_of(module))


def _exit_code_of(module: str) -> int:
    """Run the program to its end. What the interpreter would free after that costs more than most programs."""
    code: object = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001  # as the interpreter does
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


def _main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    _import_all(sys.argv[2:])
    numbers = _serve(control)
    if numbers is not None:
        control.detach()
        _become(*numbers[:4])


if __name__ == "__main__":
    _main()
