"""New code beside the old: steps in flight finish on theirs, worse code is refused, poison is contained."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from team_system import TeamSystem, reason_of

from nomaflow.client import SyncKernelClient
from processes import is_alive
from real_system import eventually

pytestmark = pytest.mark.e2e

CODE = """
import asyncio, os, time
from pathlib import Path

VERSION = 1

async def waits(*, told, **_):
    Path(f"{told}.running").write_text(str(os.getpid()))
    while not Path(told).exists():
        await asyncio.sleep(0.005)
    return VERSION

def stays(*, told, **_):
    Path(f"{told}.running").write_text(str(os.getpid()))
    while True:
        time.sleep(0.02)

def quick(**_):
    return VERSION
"""
JOBS = """
[[jobs]]
id = "waits"
overlap = "allow"
steps = [{ callable = "team:waits" }]

[[jobs]]
id = "stays"
overlap = "allow"
cancel_grace_seconds = 0.1
steps = [{ callable = "team:stays" }]

[[jobs]]
id = "quick"
overlap = "allow"
steps = [{ callable = "team:quick" }]
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[TeamSystem]:
    """A kernel, no host yet."""
    made = TeamSystem(root=tmp_path, forks_templates=True)
    made.start_kernel()
    made.project("team", {"jobs.toml": JOBS, "plugins/team.py": CODE})
    yield made
    made.close()


def _write(system: TeamSystem, version: int) -> None:
    # Lengths differ with the versions, so that a clock too coarse for the change cannot hide it.
    text = CODE.replace("VERSION = 1", f"VERSION = {version}")
    (system.root / "team" / "plugins" / "team.py").write_text(text)


def _running(system: TeamSystem, job: str, told: Path) -> tuple[str, int]:
    """Start a step that waits to be told; return its run's id and its process."""
    run_id = system.start(job, None, told=str(told))
    marker = Path(f"{told}.running")
    eventually(lambda: marker.exists() and marker.read_text() != "")
    return run_id, int(marker.read_text())


def _generation(system: TeamSystem) -> int:
    instance = system.instance("team")
    return instance.generation if instance else 0


def test_steps_in_flight_finish_on_their_generation(system: TeamSystem, tmp_path: Path) -> None:
    """``run`` and ``hosts`` say that code is newer; after ``reload`` new runs use it, old steps do not."""
    host = system.start_host("team")
    told = tmp_path / "told"
    old, pid = _running(system, "waits", told)
    deaf, deaf_pid = _running(system, "stays", tmp_path / "never")
    before = system.host_view("team")
    _write(system, 22)
    eventually(lambda: (one := system.instance("team")) is not None and one.code_newer)
    page = system.command("hosts").out
    assert "newer on disk" in page
    assert before is not None
    assert f"generation 1 {before.manifest_digest.rpartition(':')[2][:8]}, loaded" in page
    done = system.command("run", "quick", "--wait")
    assert "the code of host 'team' on disk is newer than what it has loaded" in done.err
    reloaded = json.loads(system.command("reload", "team", "-o", "json").out)
    assert [(one["accepted"], one["generation"]) for one in reloaded["instances"]] == [(True, 2)]
    fresh = system.end(system.start("quick", None))
    assert (fresh.rows_affected, fresh.steps[0].last.generation) == (22, 2)
    assert is_alive(pid)
    assert is_alive(deaf_pid)
    system.api.cancel(deaf)
    assert system.end(deaf).state == "CANCELED"
    assert not is_alive(deaf_pid)
    told.touch()
    run = system.end(old)
    assert (run.state, run.rows_affected) == ("SUCCEEDED", 1)
    assert (run.steps[0].last.generation, run.steps[0].last.worker_pid) == (1, pid)
    eventually(lambda: not is_alive(pid))
    after = system.instance("team")
    assert after is not None
    assert not after.code_newer
    assert after.loaded_at is not None
    assert after.loaded_at > (before.instances[0].loaded_at or after.loaded_at)
    assert after.pid == host.pid
    assert "newer on disk" not in system.command("hosts").out
    assert system.api.trigger("quick").warnings == ()


POISON = {
    "exit": ("print('about to leave', flush=True)\nimport os\nos._exit(9)\n", "exit code 9", "about to leave"),
    "fault": ("import ctypes\nctypes.string_at(0)\n", "segmentation fault", "poison.py"),
    "raise": ("raise LookupError('no such table')\n", "no such table", ""),
    "sys.exit": ("import sys\nsys.exit('bye')\n", "sys.exit", ""),
}


def test_poison_is_refused_and_contained(system: TeamSystem) -> None:
    """``reload`` of each poison exits with 1 and says why; the last good generation serves; ``--force`` overrides."""
    host = system.start_host("team")
    team = host.project / "plugins" / "team.py"
    for code, cause, tail in POISON.values():
        team.write_text(code)
        done = system.command("reload", "team")
        text = " ".join(done.out.split())
        assert (done.code, cause in text, tail.replace("poison", "team") in text) == (1, True, True), text
        run = system.end(system.start("quick", None))
        assert (run.rows_affected, run.steps[0].last.generation) == (1, 1)
    forced = system.command("reload", "team", "--force")
    assert forced.code == 0, forced.out
    assert "cannot be imported" in system.api.get_job("quick").held
    _write(system, 22)
    assert system.command("reload", "team").code == 0
    assert system.end(system.start("quick", None)).rows_affected == 22


def test_a_flood_on_import_is_contained(system: TeamSystem) -> None:
    """300 MB printed by an import leave no more than its tail: the host's memory stays as it was."""
    host = system.start_host("team")
    main = psutil.Process(host.pid)
    before = main.memory_info().rss
    flood = "import os\nblock = b'noise ' * 10_000\nfor _ in range(5_000):\n    os.write(1, block)\nos._exit(4)\n"
    (host.project / "plugins" / "team.py").write_text(flood)
    done = system.command("reload", "team")
    assert done.code == 1
    assert "exit code 4" in " ".join(done.out.split())
    assert len(done.out) < 20_000
    assert main.memory_info().rss - before < 32 << 20
    assert system.end(system.start("quick", None)).rows_affected == 1


def test_a_host_that_is_stopped_drains_with_a_deadline(system: TeamSystem, tmp_path: Path) -> None:
    """A step may finish within drain_seconds after SIGTERM; one that has not is FAILED host_draining, and dead."""
    host = system.start_host("team", settings=("drain_seconds = 5",))
    told = tmp_path / "told"
    polite, pid = _running(system, "waits", told)
    deaf, deaf_pid = _running(system, "stays", tmp_path / "never")
    os.kill(host.pid, signal.SIGTERM)
    eventually(lambda: _state(system.api, "team") == "DRAINING")
    assert is_alive(pid)
    told.touch()
    assert system.end(polite).state == "SUCCEEDED"
    run = system.end(deaf)
    assert (run.state, reason_of(run)) == ("FAILED", "host_draining")
    assert not is_alive(deaf_pid)
    assert host.process.wait(60) == 0


def _state(client: SyncKernelClient, name: str) -> str:
    return next((one.state for one in client.list_hosts() if one.name == name), "")
