"""Fresh interpreters: the descriptors that they get."""

from __future__ import annotations

import subprocess
import sys

_FEW_FILES = """
import os, resource
from nomaflow_host.reaper.spawning import spawn_module

resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
given = os.open("/dev/null", os.O_RDONLY)
pid = spawn_module("this", out=1, err=2, fds=[given, given], environ=os.environ)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_an_interpreter_starts_where_few_files_may_be_open() -> None:
    """The descriptors to hand on are set aside just above their places, not beyond a low limit of open files."""
    done = subprocess.run([sys.executable, "-c", _FEW_FILES], capture_output=True, text=True, check=False)
    assert (done.returncode, "The Zen of Python" in done.stdout) == (0, True), done.stderr
