"""Generations: loaded beside one another, refused when worse, contained when poisonous."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest
from harness import StartHost, descriptors_left, is_alive, pids_below

from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_host.supervisor import reload
from nomaflow_host.supervisor.values import Refused
from waiting import eventually

GOOD = "def step(**_):\n    return {version}\n\n\nasync def astep(**_):\n    return {version}\n"
WAITS = """
import asyncio
from pathlib import Path

async def waits(*, marker, **_):
    Path(f"{marker}.running").touch()
    while not Path(marker).exists():
        await asyncio.sleep(0.005)
    return VERSION

VERSION = 1
"""


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A project of one module."""
    plugins = tmp_path / "team" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "work.py").write_text(GOOD.format(version=1))
    return plugins.parent


async def test_new_code_serves_and_old_steps_finish(start_host: StartHost, team: Path, marker: Path) -> None:
    """New attempts run the new code, one in flight ends on its own, and then the old generation is gone."""
    (team / "plugins" / "slow.py").write_text(WAITS)
    host = await start_host(team)
    old = host.run("slow:waits", {"marker": str(marker)})
    await eventually(Path(f"{marker}.running").exists)
    await host.supervisor.loader.look_at_disk()
    assert host.supervisor.loader.newer_files() == ()
    old_pids = {status.pid for status in host.supervisor.pool.statuses()}
    (team / "plugins" / "work.py").write_text(GOOD.format(version=22))
    (team / "plugins" / "slow.py").write_text(WAITS.replace("VERSION = 1", "VERSION = 22"))
    await host.supervisor.loader.look_at_disk()
    await eventually(lambda: set(host.supervisor.loader.newer_files()) == {"plugins/slow.py", "plugins/work.py"})
    (worker,) = (each for each in host.supervisor.pool.statuses() if each.running)
    assert worker.attempt_keys == (old,)
    assert worker.rss_bytes > 0
    assert abs(worker.started_at_us / 1e6 - time.time()) < 60
    outcome = await host.supervisor.load()
    assert (outcome.accepted, outcome.generation) == (True, 2)
    assert host.supervisor.loader.newer_files() == ()
    await host.supervisor.loader.look_at_disk()
    assert host.supervisor.loader.newer_files() == ()
    assert (await host.result("work:step")).rows_affected == 22
    assert (await host.result("work:astep")).rows_affected == 22
    marker.touch()
    assert (await host.sink.end_of(old)).rows_affected == 1
    await eventually(lambda: not any(is_alive(pid) for pid in old_pids))
    await eventually(lambda: {status.generation for status in host.supervisor.pool.statuses()} == {2})


async def test_unchanged_code_has_the_same_digest(start_host: StartHost, team: Path) -> None:
    """A load of the same code gives the same digest."""
    host = await start_host(team)
    first = host.supervisor.loader.serving
    second = await host.supervisor.load()
    assert first is not None
    assert second.digest == first.digest
    assert first.digest.startswith("sha256:")


async def test_a_worse_generation_is_refused(start_host: StartHost, team: Path) -> None:
    """A module that no longer imports refuses the load, unless forced; what was broken before does not block."""
    (team / "plugins" / "broken.py").write_text("import nowhere_to_be_found\n")
    host = await start_host(team)
    (team / "plugins" / "work.py").write_text("def step(:\n")
    outcome = await host.supervisor.load()
    assert (outcome.accepted, outcome.generation) == (False, 1)
    assert any("'work'" in reason for reason in outcome.reasons)
    assert not any("broken" in reason for reason in outcome.reasons)
    assert (await host.result("work:step")).rows_affected == 1
    forced = await host.supervisor.load(force=True)
    assert (forced.accepted, forced.generation) == (True, 3)
    assert (await host.result("work:step")).state is FinishedState.FAILED


async def test_a_callable_that_a_job_needs_and_that_is_gone(start_host: StartHost, team: Path) -> None:
    """A callable named by a job that vanishes refuses the load; one that was never there does not."""
    host = await start_host(team, load=False)
    host.named = ("work:step", "work:never")
    assert (await host.supervisor.load()).accepted
    (team / "plugins" / "work.py").write_text("async def astep(**_):\n    return 3\n")
    outcome = await host.supervisor.load()
    assert not outcome.accepted
    assert any("'work:step'" in reason for reason in outcome.reasons)
    assert not any("work:never" in reason for reason in outcome.reasons)


async def test_a_load_that_fails_unexpectedly_is_refused(start_host: StartHost, team: Path) -> None:
    """The answer has the error's text, the log its traceback; the old code continues."""
    host = await start_host(team)
    host.connectors = object()
    outcome = await host.supervisor.load()
    assert (outcome.accepted, outcome.generation) == (False, 1)
    assert "AttributeError: 'object' object has no attribute 'variables'" in outcome.reasons[0]
    assert (await host.result("work:step")).rows_affected == 1


FORGES = """
import os, struct
body = b'{"is":"ready"}'
os.write(3, struct.pack("!II", len(body), 0) + body)
"""


async def test_a_template_that_answers_nonsense_does_not_stay(start_host: StartHost, team: Path) -> None:
    """A module that writes to its template's connection has the load refused, and the template's process ends."""
    host = await start_host(team, spare_exclusive=0)
    await host.result("work:astep")
    reaper = host.supervisor.reaper_identity.pid
    before = set(pids_below(reaper))
    (team / "plugins" / "forges.py").write_text(FORGES)
    outcome = await host.supervisor.load()
    assert (outcome.accepted, outcome.generation) == (False, 1)
    await eventually(lambda: set(pids_below(reaper)) <= before)
    assert (await host.result("work:step")).rows_affected == 1


async def test_a_load_without_a_free_descriptor_is_refused(start_host: StartHost, team: Path) -> None:
    """At the limit of open files a load changes nothing, and the host can still be stopped, or load later."""
    host = await start_host(team)
    for number in range(4):
        with descriptors_left(number):
            outcome = await host.supervisor.load()
        assert (outcome.accepted, outcome.generation) == (False, 1)
        assert "Too many open files" in outcome.reasons[0]
    assert (await host.supervisor.load()).generation > 1


NEVER = "did not finish within"
POISON = {
    "exit": ("import os\nprint('about to leave')\nimport sys; sys.stdout.flush()\nos._exit(9)\n", "exit code 9"),
    "fault": ("import ctypes\nctypes.string_at(0)\n", "segmentation fault"),
    "loop": ("import time\ntime.sleep(600)\n", NEVER),
    "noise": ("import os\nwhile True:\n    os.write(1, b'noise ' * 10000)\n", NEVER),
}


async def test_poisoned_imports_are_contained(start_host: StartHost, team: Path) -> None:
    """An import that kills, hangs or floods is refused with its cause and last output; the old code continues."""
    began = time.monotonic()
    await start_host(team)
    # Long enough for what is good to import on this machine as it is now, and not for ever.
    host = await start_host(team, load_seconds=0.5 + 5 * (time.monotonic() - began))
    for name, (code, cause) in POISON.items():
        (team / "plugins" / "poison.py").write_text(code)
        outcome = await host.supervisor.load(force=True)
        assert (outcome.accepted, outcome.generation) == (False, 1), name
        assert cause in outcome.reasons[0]
        assert len(outcome.output_tail) <= 4096
        if name == "loop":
            (told,) = outcome.problems
            assert (told.file, told.line) == ("plugins/poison.py", 2)
            assert "File" not in told.message
            assert "poison.py" in outcome.output_tail
            assert "nomaflow_host" not in outcome.output_tail
            assert "importlib" not in outcome.output_tail
        if name == "exit":
            (told,) = outcome.problems
            assert (told.file, told.line) == ("plugins/poison.py", 4)
            assert told.message.endswith("exit code 9; its last output: about to leave")
        assert (await host.result("work:step")).rows_affected == 1


async def test_a_poisoned_cold_start(start_host: StartHost, team: Path) -> None:
    """A host whose first load dies has no generation, says why, and serves once the code is mended."""
    (team / "plugins" / "poison.py").write_text(POISON["exit"][0])
    host = await start_host(team, load=False)
    outcome = await host.supervisor.load()
    assert (outcome.accepted, outcome.generation) == (False, 0)
    assert "about to leave" in outcome.output_tail
    (team / "plugins" / "poison.py").unlink()
    assert (await host.supervisor.load()).accepted
    assert (await host.result("work:step")).rows_affected == 1


async def test_threads_at_import_make_workers_spawn(start_host: StartHost, team: Path) -> None:
    """A module that starts a thread on import is not forked, its workers are new interpreters, and steps run."""
    (team / "plugins" / "threads.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    host = await start_host(team)
    info = host.supervisor.loader.serving
    assert info is not None
    assert not info.forkable
    assert "thread" in info.unforkable_reason
    assert (await host.result("work:step")).rows_affected == 1


async def test_grpc_at_import_makes_workers_spawn(start_host: StartHost, team: Path) -> None:
    """A module that imports grpc is not forked."""
    (team / "plugins" / "calls.py").write_text("import grpc\n")
    host = await start_host(team)
    info = host.supervisor.loader.serving
    assert info is not None
    assert not info.forkable
    assert (await host.result("work:astep")).rows_affected == 1


async def test_main_is_not_blocked_by_anything(start_host: StartHost, marker: Path) -> None:
    """The main process's loop never blocks for long while steps hold the GIL, block loops and flood."""
    import asyncio

    host = await start_host()
    host.run("hostile.stubborn:holds_the_gil", {"marker": str(marker.with_name("gil"))})
    host.run("hostile.stubborn:async_tight_loop", {"marker": str(marker)})
    flood = host.run("polite:floods", {"count": 10_000})
    worst = 0.0
    while flood not in host.sink.ends:
        began = time.monotonic()
        await asyncio.sleep(0.005)
        worst = max(worst, time.monotonic() - began)
    assert worst < 10
    assert os.getpid() not in {status.pid for status in host.supervisor.pool.statuses()}


async def test_spawned_workers_run_the_code_that_was_loaded(start_host: StartHost, team: Path) -> None:
    """A worker that is a fresh interpreter does not pick up what was saved, added or broken since the load."""
    host = await start_host(team, spawn_only=True, spare_exclusive=0, recycle_after_steps=1)
    (team / "plugins" / "work.py").write_text(GOOD.format(version=22))
    (team / "plugins" / "poison.py").write_text("import os\nos._exit(1)\n")
    for _ in range(2):
        assert (await host.result("work:step")).rows_affected == 1
    assert (await host.result("poison:anything")).reason_code == "import_failed"


async def test_a_stop_while_a_load_reads_the_project_is_no_fault_of_the_code(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no template yet that could be given up: none is made, and nothing tells of a load that was refused."""
    host = await start_host(load=False)
    reads, read = threading.Event(), threading.Event()

    def stamp(_: object) -> dict[str, object]:
        reads.set()
        read.wait(60)
        return {}

    monkeypatch.setattr(reload, "disk_stamp", stamp)
    load = asyncio.ensure_future(host.supervisor.load())
    await eventually(reads.is_set)
    await host.supervisor.stop()
    read.set()
    with pytest.raises(Refused, match="the host is stopping"):
        await load
