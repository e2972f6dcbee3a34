"""The tests' own short cut: a template that a reaper has forked is to authors' code what a fresh one is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from project_system import open_system

pytestmark = pytest.mark.e2e

JOB = '[[jobs]]\nid = "seen"\nsteps = [{ callable = "team.code:seen" }]\n'
CODE = """
import atexit, gc, logging, os, resource, signal, sys, threading, warnings

OF_REAPERS = ("nomaflow_host.reaper", "nomaflow_api.private_memory", "pwd")

def _facts():
    return {
        "descriptors": {number: os.readlink(f"/proc/self/fd/{number}").partition(":")[0] for number in "012"},
        "open": len(os.listdir("/proc/self/fd")),
        "signals": {each.name: str(signal.getsignal(each)) for each in signal.Signals},
        "session": os.getsid(0) == os.getpid(),
        "umask": os.umask(0o077),
        "environ": sorted(set(os.environ) - {"NOMAFLOW_TEST_FORKS_TEMPLATES"}),
        "path": sys.path,
        "flags": str(sys.flags),
        "main": [sys.modules["__main__"].__spec__.name, sys.argv[1:], sys.orig_argv[1:]],
        "threads": [each.name for each in threading.enumerate()],
        "modules": sorted(name for name in sys.modules if not name.startswith(OF_REAPERS)),
        "dumpable": os.stat("/proc/self/environ").st_uid == os.getuid(),
        "collecting": [gc.isenabled(), gc.get_freeze_count() > 10_000],
        "warnings": str(warnings.filters),
        "loggers": [str(logging.root.handlers), logging.root.level],
        "at_exit": atexit._ncallbacks(),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    }

AT_IMPORT = _facts()

def seen():
    return {"at_import": AT_IMPORT, "at_work": {**_facts(), "session": None}}
"""


def _seen(folder: Path, *, forks_templates: bool) -> tuple[Any, str]:
    """Return what code sees in a host, and the command line of its template."""
    for system in open_system(folder, forks_templates=forks_templates):
        system.write(JOB, code=CODE)
        system.start_kernel()
        host = system.start_host()
        template = Path(f"/proc/{sorted(host.tree() - {host.oldest_below})[0]}/cmdline").read_text()
        run = system.end(system.api.trigger("seen").run_id)
        assert run.state == "SUCCEEDED", run.error
        return json.loads(json.dumps(run.steps[0].last.extras).replace(str(folder), "")), template
    raise AssertionError


def test_a_forked_template_is_what_a_fresh_one_is(tmp_path: Path) -> None:
    """Modules, variables, signals, descriptors and the rest are the same at the import and in a step."""
    fresh, command = _seen(tmp_path / "fresh", forks_templates=False)
    assert "nomaflow_host.template" in command
    forked, command = _seen(tmp_path / "forked", forks_templates=True)
    assert "nomaflow_host.template" not in command
    for when, facts in fresh.items():
        assert {name: (fact, facts[name]) for name, fact in forked[when].items() if fact != facts[name]} == {}
