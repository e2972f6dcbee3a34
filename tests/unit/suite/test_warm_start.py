"""Programs that are forked from a process that has imported them behave as fresh ones do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest

import warm_start

PROGRAM = '''"""A program that shows what it was given."""

import atexit
import os
import sys
import threading

print(sys.argv, sys.path[0], os.getcwd(), os.environ.get("MARK"), sys.stdin.read(), os.getpid() == os.getpgrp())
print("to stderr", file=sys.stderr)
atexit.register(lambda: print("the end"))
threading.Timer(0.01, print, ["of a thread"]).start()
assert sorted(os.listdir("/proc/self/fd")) == ["0", "1", "2", "3"], "it has descriptors of others"
exec(sys.argv[1])
'''


def _start(folder: Path, code: str, streams: tuple[IO[bytes], ...]) -> warm_start.Forked:
    folder.joinpath("shown.py").write_text(PROGRAM)
    env = {**os.environ, "MARK": "mine"}
    return warm_start.fork(["shown", code], modules=["json.*"], cwd=folder, env=env, streams=streams, path=str(folder))


def _start_afresh(folder: Path, code: str, streams: tuple[IO[bytes], ...]) -> subprocess.Popen[bytes]:
    folder.joinpath("shown.py").write_text(PROGRAM)
    env, (given, out, err) = {**os.environ, "MARK": "mine"}, streams
    return subprocess.Popen(
        [sys.executable, "-m", "shown", code], cwd=folder, env=env, stdin=given, stdout=out, stderr=err
    )


@pytest.mark.parametrize("start", [_start, _start_afresh])
@pytest.mark.parametrize(
    ("code", "exit_code", "told"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('so')", 1, "so\n"),
        ("raise LookupError('gone')", 1, "LookupError: gone\n"),
        ("os.kill(os.getpid(), 9)", -9, None),
    ],
)
def test_a_program_is_given_and_gives_what_a_fresh_one_does(
    tmp_path: Path, start: object, code: str, exit_code: int, told: str | None
) -> None:
    """Arguments, folder, environment and streams; threads and exit handlers end as they do, and so does the program."""
    assert callable(start)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(b"given")
        given.seek(0)
        assert start(tmp_path, code, (given, out, err)).wait(30) == exit_code
        out.seek(0)
        err.seek(0)
        shown, error = out.read().decode().splitlines(), err.read().decode()
    if told is None:
        return
    assert shown[0] == f"{[str(tmp_path / 'shown.py'), code]} {tmp_path} {tmp_path} mine given False"
    assert sorted(shown[1:]) == ["of a thread", "the end"]
    assert error.startswith("to stderr\n")
    assert error.endswith(told)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[warm_start.Forked]:
    """A program that waits for ever."""
    with Path(os.devnull).open("r+b") as null:
        started = _start(tmp_path, "threading.Event().wait()", (null, null, null))
    yield started
    started.kill()
    started.wait()


def test_one_is_waited_for_and_killed(waiting: warm_start.Forked) -> None:
    """A forked program answers as one of Popen does, and its number is not used once it has ended."""
    assert waiting.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.1)
    waiting.kill()
    assert waiting.wait(30) == waiting.poll() == -signal.SIGKILL
    assert not Path(f"/proc/{waiting.pid}").exists()
    waiting.kill()


def test_a_process_that_forks_and_has_ended_is_replaced(waiting: warm_start.Forked, tmp_path: Path) -> None:
    """A red test kills everything that was started in it."""
    waiting.kill()
    waiting.wait(30)
    (parent,) = (each for each in psutil.Process().children() if each.cmdline()[-1:] == ["json.*"])
    parent.kill()
    psutil.wait_procs([parent], 10)
    with Path(os.devnull).open("r+b") as null:
        assert _start(tmp_path, "pass", (null, null, null)).wait(30) == 0


@pytest.mark.parametrize(("name", "same"), [("PYTHONPATH", False), ("LANG", False), ("NOMAFLOW_PROJECT", True)])
def test_what_an_interpreter_reads_as_it_starts_is_noticed(name: str, same: bool) -> None:
    assert warm_start.as_at_start(os.environ)
    assert warm_start.as_at_start({**os.environ, name: "another value"}) is same
