"""Two teams on one kernel: libraries that conflict, and a restart that affects only its own team."""

from __future__ import annotations

import asyncio
import site
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from team_system import TeamSystem

from nomaflow.client import KernelClient, ProjectAddress
from nomaflow.client.values import EventView, RunView
from processes import is_alive
from real_system import Running, eventually

pytestmark = pytest.mark.e2e

CODE = """
import asyncio, os
from importlib.metadata import version
from pathlib import Path

import acme

async def waits(*, told, **_):
    Path(f"{told}.running").write_text(str(os.getpid()))
    while not Path(told).exists():
        await asyncio.sleep(0.005)
    return 1

def which(**_):
    return {"acme": acme.NAME, "installed": version("acme"), "python": os.path.realpath(os.sys.prefix)}
"""
JOBS = """
[[jobs]]
id = "{team}-waits"
overlap = "allow"
steps = [{{ callable = "work:waits" }}]

[[jobs]]
id = "{team}-which"
overlap = "allow"
steps = [{{ callable = "work:which" }}]
"""


def _virtual_environment(folder: Path, version: str) -> str:
    """Make an environment that sees this one's packages and has an ``acme`` of its own; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "acme").mkdir()
    (packages / "acme" / "__init__.py").write_text(f"NAME = 'acme {version}'\n")
    info = packages / f"acme-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme\nVersion: {version}\n")
    shared = [path for path in (*site.getsitepackages(), *sys.path) if path.endswith("site-packages")]
    lines = [f"import site; site.addsitedir({path!r})" for path in dict.fromkeys(shared)]
    (packages / "shared.pth").write_text("\n".join([*lines, ""]))
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamSystem]:
    """A kernel and two hosts, each in an environment of its own."""
    made = TeamSystem(root=tmp_path_factory.mktemp("teams"), forks_templates=True)
    made.start_kernel()
    for team, version in (("red", "1.0"), ("blue", "2.0")):
        made.project(team, {"jobs.toml": JOBS.format(team=team), "plugins/work.py": CODE})
        made.start_host(team, python=_virtual_environment(made.root / f"venv-{team}", version))
    yield made
    made.close()


def test_conflicting_libraries_serve_one_kernel(system: TeamSystem) -> None:
    """Each team's steps import its own version of the library."""
    for team, version in (("red", "1.0"), ("blue", "2.0")):
        extras = system.end(system.start(f"{team}-which", None)).steps[0].last.extras
        assert (extras["acme"], extras["installed"]) == (f"acme {version}", version)
        assert extras["python"] == str(system.root / f"venv-{team}")


def _settled_tree(host: Running) -> set[int]:
    """Return the processes below a host once none has come or gone for a second.

    Workers are made ahead of need, each by a process that forks it and ends at once.
    """
    seen, since = host.tree(), time.monotonic()

    def settled() -> bool:
        nonlocal seen, since
        now = host.tree()
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > 1

    eventually(settled)
    return seen


class _Watcher:
    """Watches everything from a thread of its own, and notes whether its connection was ever lost."""

    def __init__(self, system: TeamSystem) -> None:
        self.events: list[EventView] = []
        self.lost = 0
        self._project = system.kernel_project
        self._after = system.api.get_kernel().last_event_seq
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()))
        self._thread.start()

    def _connected(self, connected: bool) -> None:
        self.lost += not connected

    async def _watch(self) -> None:
        source = ProjectAddress(project=self._project)
        async with KernelClient(source, by="watcher", on_connected=self._connected) as client:
            async for event in client.watch_events(after_seq=self._after):
                self.events.append(event)
                if event.job_id == "red-which" and event.run_state == "SUCCEEDED":
                    return

    def join(self) -> None:
        """Wait for the end of the run that ends the watch."""
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_a_restart_touches_nobody_else(system: TeamSystem, tmp_path: Path) -> None:
    """Red restarts with new code while blue works: kernel, blue, its worker and every watcher are as before."""
    told = tmp_path / "told"
    blue_run = system.start("blue-waits", None, told=str(told))
    red_run = system.start("red-waits", None, told=str(tmp_path / "red"))
    marker, red_marker = Path(f"{told}.running"), tmp_path / "red.running"
    eventually(lambda: marker.exists() and marker.read_text() and red_marker.exists() and red_marker.read_text())
    blue, red, kernel = system.parts["blue"], system.parts["red"], system.kernel
    watcher, ended = _Watcher(system), list[RunView]()
    waiting = threading.Thread(target=lambda: ended.append(system.client("bob").wait(blue_run)))
    waiting.start()
    blue_tree, before = _settled_tree(blue), system.instance("blue")
    red_worker = int(red_marker.read_text())
    red.stop()
    assert not is_alive(red_worker)
    (red.project / "plugins" / "work.py").write_text(CODE.replace("return 1", "return 22"))
    system.start_host("red", python=str(system.root / "venv-red" / "bin" / "python"))
    assert system.parts["red"].pid != red.pid
    assert system.end(red_run).reason is not None
    assert (kernel.ended, blue.ended) == (False, False)
    after = system.instance("blue")
    assert before is not None
    assert after is not None
    assert (after.pid, after.incarnation, after.generation) == (before.pid, before.incarnation, before.generation)
    assert after.attached_at == before.attached_at
    assert is_alive(int(marker.read_text()))
    assert blue_tree <= _settled_tree(blue)  # a worker may have been made ahead of need meanwhile
    told.touch()
    waiting.join(30)
    assert [run.state for run in ended] == ["SUCCEEDED"]
    assert len(ended[0].steps[0].attempts) == 1
    system.end(system.start("red-which", None))
    watcher.join()
    assert watcher.lost == 0
    seqs = [event.seq for event in watcher.events]
    assert seqs == sorted(set(seqs))
