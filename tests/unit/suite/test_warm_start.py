"""Programs that are forked from a process that has imported them behave as fresh ones do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

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
open(f"{os.environ['PIDS']}/{os.getpid()}", "w").close()
assert sorted(os.listdir("/proc/self/fd")) == ["0", "1", "2", "3"], "it has descriptors of others"
exec(sys.argv[1])
'''


def _run(
    folder: Path, code: str, *, seconds: float = 30.0, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    folder.joinpath("shown.py").write_text(PROGRAM)
    environ = {**os.environ, "MARK": "mine", "PIDS": str(folder), **(environ or {})}
    program = ["shown", code]
    return warm_start.run(program, packages=["json"], cwd=folder, env=environ, stdin="given", seconds=seconds)


@pytest.mark.parametrize(
    ("code", "ends_with", "told"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('so')", 1, "so\n"),
        ("raise LookupError('gone')", 1, "LookupError: gone\n"),
        ("os.kill(os.getpid(), 9)", -9, None),
    ],
)
@pytest.mark.parametrize("fresh", [False, True], ids=["forked", "fresh"])
def test_a_program_ends_as_it_says(tmp_path: Path, code: str, ends_with: int, told: str | None, *, fresh: bool) -> None:
    done = _run(tmp_path, code, environ={"PYTHONNODEBUGRANGES": "1"} if fresh else {})
    assert done.returncode == ends_with
    if told is None:
        return
    argv, *rest = done.stdout.decode().splitlines()
    assert argv == f"{[str(tmp_path / 'shown.py'), code]} {tmp_path} {tmp_path} mine given False"
    assert sorted(rest) == ["of a thread", "the end"]
    error = done.stderr.decode()
    assert error.startswith("to stderr\n")
    assert error.endswith(told)


def test_one_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        _run(tmp_path, "threading.Event().wait()", seconds=0.5)
    (pid,) = (int(each.name) for each in tmp_path.iterdir() if each.name.isdigit())
    warm = _run(tmp_path, "pass")  # the process that forks has waited for the other one by now
    assert warm.returncode == 0
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_that_forks_and_has_ended_is_replaced(tmp_path: Path) -> None:
    assert _run(tmp_path, "pass").returncode == 0
    (parent,) = (each for each in psutil.Process().children() if each.cmdline()[-1:] == ["json"])
    parent.kill()
    psutil.wait_procs([parent], 10)
    assert _run(tmp_path, "pass").returncode == 0
