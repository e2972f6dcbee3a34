"""Starts a Python program as a process of its own, forked from one that has imported its packages once.

To import them takes longer than most commands. A forked process differs from a fresh one in its command line and in
what the interpreter reads as it starts: :func:`run` starts a fresh one if the environment has something for that.
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
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

__all__ = ["run"]

_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "GRPC_")


def run(
    program: Sequence[str],
    *,
    packages: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    stdin: str = "",
    seconds: float,
) -> subprocess.CompletedProcess[bytes]:
    """Run ``python -m`` with a module and its arguments, and return how it ended.

    :param packages: whose modules to import in advance
    :raises subprocess.TimeoutExpired: if it has not ended in time; it is killed
    """
    if _at_start(env) != _at_start(os.environ):
        command = [sys.executable, "-m", *program]
        return subprocess.run(
            command, cwd=cwd, env=env, input=stdin.encode(), capture_output=True, timeout=seconds, check=False
        )
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        order = {"program": list(program), "cwd": str(cwd), "env": dict(env)}
        code = _warm(packages).run(order, (given, out, err), seconds)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(program, code, out.read(), err.read())


def _at_start(environ: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """Return what the interpreter, or a library of it, reads as it starts."""
    return frozenset((name, value) for name, value in environ.items() if name.startswith(_READ_AT_START))


class _Warm:
    """The process that forks, seen from the one that uses it. It ends with that."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-P", __file__, str(theirs.fileno()), *packages]
            environ = {**os.environ, "GRPC_VERBOSITY": "NONE"}  # as the command line itself imports gRPC
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environ)

    @property
    def ended(self) -> bool:
        """True if it has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait()

    def run(self, order: object, streams: Sequence[IO[bytes]], seconds: float) -> int:
        """Start a process with its standard streams, wait for its end, and return its exit code as Popen has it."""
        ours, theirs = socket.socketpair()
        with ours, tempfile.TemporaryFile() as letter:
            letter.write(json.dumps(order).encode())
            letter.flush()
            with theirs:
                numbers = [letter.fileno(), *(each.fileno() for each in streams), theirs.fileno()]
                socket.send_fds(self._socket, [b"start"], numbers)
            ours.settimeout(seconds)
            pid = int(ours.recv(100) or b"0")
            assert pid, f"the process that forks has ended with {self._process.poll()}"
            try:
                return int(ours.recv(100))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(str(order), seconds) from None


_KEPT: dict[object, _Warm] = {}


def _warm(packages: Sequence[str]) -> _Warm:
    """Return the process that forks. A red test may have ended it: see ``red_tests``."""
    key = tuple(packages), _at_start(os.environ)
    if key not in _KEPT or _KEPT[key].ended:
        _KEPT[key] = _Warm(packages)
        atexit.register(_KEPT[key].close)
    return _KEPT[key]


# The process that forks.


def _import_all(packages: Sequence[str]) -> None:
    gc.disable()
    for name in packages:
        package = importlib.import_module(name)
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
    gc.freeze()
    gc.enable()


def _serve(control: socket.socket) -> list[int] | None:
    """Fork a process for each order, and tell its number and then its end; return in it with its descriptors."""
    ends: dict[int, tuple[int, int]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is control:
                    _, numbers, _, _ = socket.recv_fds(control, 16, 5)
                    if not numbers:
                        return None
                    pid = os.fork()
                    if not pid:
                        return numbers
                    os.write(numbers[4], b"%d" % pid)
                    for number in numbers[:4]:
                        os.close(number)
                    watched = os.pidfd_open(pid)
                    ends[watched] = pid, numbers[4]
                    selector.register(watched, selectors.EVENT_READ)
                    continue
                pid, told = ends.pop(key.fd)
                selector.unregister(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):
                    os.write(told, b"%d" % code)
                os.close(told)
                os.close(key.fd)


def _become(numbers: Sequence[int]) -> None:
    """Turn into the ordered program."""
    with os.fdopen(os.dup(numbers[0]), "rb") as letter:
        letter.seek(0)
        order = json.load(letter)
    for standard, number in enumerate(numbers[1:4]):
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
    sys.path.insert(0, os.getcwd())
    sys.argv[1:] = order["program"][1:]
    sys.orig_argv[1:] = ["-m", *order["program"]]
    os._exit(_exit_code_of(order["program"][0]))


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
        _become(numbers)


if __name__ == "__main__":
    _main()
