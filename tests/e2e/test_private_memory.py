"""A step that searches what its own user may read of other processes finds no secret of its host or kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from team_system import TeamSystem

from hostile_user import entered_by_all, machine_user, with_python_for_all
from machine_parts import need

pytestmark = pytest.mark.e2e

SECRETS = {"POOL_PASSWORD": "pw-of-the-pool-9d7f", "UNNAMED_TOKEN": "token-that-nobody-names-5e1c"}
KERNEL_SECRET = "kernel-only-7b2a"
CODE = """
import ctypes, os

def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""

def _may(act):
    try:
        act()
    except OSError:
        return False
    return True

def searches(*, reversed_secrets, pids, **_):
    needles = [text[::-1].encode() for text in reversed_secrets]
    places = {"os.environ": repr(dict(os.environb)).encode()}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        for name in ("environ", "cmdline"):
            places[f"/proc/{pid}/{name}"] = _read(f"/proc/{pid}/{name}")
    own = os.getpid()
    for fd in os.listdir("/proc/self/fd"):
        target = os.readlink(f"/proc/self/fd/{fd}") if os.path.lexists(f"/proc/self/fd/{fd}") else ""
        places[f"fd {fd} target {target}"] = target.encode()
        if target.startswith("/memfd:") or os.path.isfile(target):
            places[f"fd {fd}"] = _read(f"/proc/self/fd/{fd}")
    libc = ctypes.CDLL(None, use_errno=True)
    return {
        "found": sorted(place for place, text in places.items() if any(needle in text for needle in needles)),
        "read": len([text for text in places.values() if text]),
        "uid": os.getuid(),
        "memories": [pid for pid in pids if _may(lambda: open(f"/proc/{pid}/mem", "rb"))],
        "descriptors": [pid for pid in pids if _may(lambda: os.listdir(f"/proc/{pid}/fd"))],
        "traced": [pid for pid in pids if libc.ptrace(16, pid, 0, 0) == 0],
        "own_memory": _may(lambda: open(f"/proc/{own}/mem", "rb")),
    }
"""
FILES = {
    "plugins/work.py": CODE,
    "jobs.toml": '[[jobs]]\nid = "searches"\nsteps = [{ callable = "work:searches" }]\n',
    "connectors.toml": '[pools.main]\nurl = "postgresql://u:${POOL_PASSWORD}@127.0.0.1:1/d"\n',
}
THREAD = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
"""Code that no template can be forked with."""


@pytest.fixture(scope="module")
def system() -> Iterator[TeamSystem]:
    """Start a kernel, and prepare a host of the same user without rights, as they run on most machines."""
    need("setpriv")
    with machine_user("nfowner") as owner, entered_by_all() as folder:
        side = (
            *with_python_for_all(folder),
            "setpriv", "--reuid", str(owner.pw_uid), "--regid", str(owner.pw_gid), "--clear-groups",
        )  # fmt: skip
        made = TeamSystem(root=folder, kernel_side=side)
        made.project("team", FILES)
        for path in (made.kernel_project, *(folder / "team").rglob("*"), folder / "team"):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        try:
            made.start_kernel(environ={"KERNEL_ONLY": KERNEL_SECRET})
            yield made
        finally:
            made.close()


@pytest.mark.parametrize("spawned", [False, True], ids=["forked", "spawned"])
def test_a_step_that_searches_finds_no_secret(system: TeamSystem, spawned: bool) -> None:
    """No environment, command line or descriptor has a secret, and memory of host, reaper and kernel cannot be opened."""
    Path(system.root, "team", "plugins", "early.py").write_text(THREAD if spawned else "")
    host = system.start_host("team", environ=SECRETS, side=system.kernel_side)
    pids = [system.kernel.pid, host.pid, host.oldest_below]
    needles = [secret[::-1] for secret in (*SECRETS.values(), KERNEL_SECRET)]
    run = system.end(system.start("searches", reversed_secrets=needles, pids=pids))
    assert run.state == "SUCCEEDED", run
    found = run.steps[0].attempts[-1].extras
    assert found["uid"] == os.stat(system.root / "team").st_uid
    assert found["read"] > 5
    assert found["own_memory"]
    assert {name: found[name] for name in ("found", "memories", "descriptors", "traced")} == {
        "found": [], "memories": [], "descriptors": [], "traced": [],
    }  # fmt: skip
    system.stop("team")
