"""Deaths of every process, by every cause: the others learn the reason, and nothing is left."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import Host, StartHost, fresh, is_alive, pids_below, shared

from nomaflow_api.v1.letter_words import FinishedState, Isolation
from nomaflow_host.reaper.proc import ProcessIdentity
from nomaflow_host.supervisor.template_handle import TemplateHandle
from nomaflow_host.supervisor.values import Refused
from processes import still_alive
from waiting import eventually

SUITE = Path(__file__).parents[2]

DEATHS = [
    ("exits", "exit code 3", "the last line before os._exit"),
    ("segfaults", "segmentation fault (signal 11, SIGSEGV)", "the last line before the fault"),
    ("killed", "killed by the system, probably out of memory", "the last line before the kill"),
]


@shared
async def test_a_dead_worker_is_told_in_plain_words(host: Host) -> None:
    """A worker's death fails its attempt with the cause, also if it is killed as it dies; its last lines are kept."""
    for name, cause, last in DEATHS * 3:  # of three deaths, one or two are seen before they are over
        key = host.run(f"hostile.deadly:{name}")
        end = await host.sink.end_of(key)
        assert (end.state, end.reason_code) == (FinishedState.FAILED, "worker_died"), (name, end.reason)
        assert cause in end.reason
        assert last in host.sink.text(key)
        assert any(line.level == logging.ERROR and end.reason in line.message for line in host.sink.lines(key)), name
        assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED, name


@shared
@pytest.mark.parametrize(
    ("name", "outermost"),
    [("segfaults", "segfaults"), ("segfaults_async", "segfaults_async"), ("segfaults_in_a_thread", "_fault")],
)
async def test_a_segfault_leaves_the_author_s_stack_in_the_log(host: Host, name: str, outermost: str) -> None:
    """One error of the log has it, and no frame of the worker, of its event loop or of another thread."""
    key = host.run(f"hostile.deadly:{name}")
    await host.sink.end_of(key)
    [stack] = [line for line in host.sink.lines(key) if "Fatal Python error: Segmentation fault" in line.message]
    assert stack.level == logging.ERROR
    assert stack.message.splitlines()[-1].endswith(f" in {outermost}")
    assert "most recent call first" in stack.message
    text = host.sink.text(key)
    assert not any(part in text for part in ("nomaflow_host", "asyncio/", "Extension modules", "select"))


@shared
async def test_a_segfault_of_a_forked_process_is_in_the_log(host: Host) -> None:
    """faulthandler's stack reaches the log through the pipe: the step itself goes on."""
    key = host.run("hostile.deadly:forks_a_segfault")
    assert (await host.sink.end_of(key)).rows_affected == signal.SIGSEGV
    assert "in forks_a_segfault" in host.sink.text(key)


async def test_death_of_a_shared_worker_fails_all_in_it(start_host: StartHost, marker: Path) -> None:
    """os._exit in an async step fails its neighbours with the cause; its callable shares no worker again."""
    host = await start_host(shared_workers=1)
    neighbour = host.run("polite:waits", {"marker": str(marker)})
    await host.started_in(marker)
    culprit = host.run("hostile.deadly:exits_async")
    for key in (neighbour, culprit):
        end = await host.sink.end_of(key)
        assert end.reason_code == "worker_died"
        assert "this step or another one in it" in end.reason
    again = host.run("hostile.deadly:exits_async")
    await host.sink.end_of(again)
    assert host.sink.starts[again].exclusive


@shared
async def test_daemon_of_a_dead_worker_is_gone_first(host: Host, marker: Path) -> None:
    """The daemon of a worker that died by itself is dead before the attempt is reported as failed."""
    end = await host.result("hostile.deadly:leaves_daemon_and_dies", {"marker": str(marker)})
    assert end.reason_code == "worker_died"
    assert not is_alive(int(Path(f"{marker}.child").read_text()))


@fresh
async def test_a_killed_reaper_is_replaced(start_host: StartHost) -> None:
    """All workers die with a reaper that plugin code kills, attempts are FAILED, and the host serves again."""
    reapers: list[ProcessIdentity] = []
    host = await start_host(on_reaper=reapers.append)
    reaper = host.supervisor.reaper_identity.pid
    below = pids_below(reaper)
    end = await host.result("hostile.deadly:kills_the_reaper")
    assert (end.state, end.reason_code) == (FinishedState.FAILED, "worker_killed")
    assert "reaper" in end.reason
    assert not any(is_alive(pid) for pid in below)
    await eventually(lambda: (info := host.supervisor.loader.serving) is not None and info.number == 2)
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED
    assert [each.generation for each in host.loads] == [1, 2]  # each is told, also to the service manager
    assert host.supervisor.reaper_identity.pid != reaper
    assert reapers[0].pid == reaper
    assert reapers[1:] == [host.supervisor.reaper_identity]


async def test_reapers_that_die_again_and_again_are_replaced_with_pauses(start_host: StartHost) -> None:
    """At least a second passes between the death of a reaper that has just begun and the start of the next."""
    begun: list[float] = []
    died: list[float] = []
    host = await start_host(on_reaper=lambda _: begun.append(time.monotonic()))
    reaper = 0
    for _ in range(2):
        await eventually(lambda: host.supervisor.reaper_identity.pid not in (0, reaper))  # noqa: B023  # asked at once
        reaper = host.supervisor.reaper_identity.pid
        died.append(time.monotonic())
        os.kill(reaper, signal.SIGKILL)
    await eventually(lambda: len(begun) == 3)
    assert min(after - before for before, after in zip(died, begun[1:], strict=True)) >= 1
    await eventually(lambda: host.supervisor.reaper_identity.pid not in (0, reaper))
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED


async def test_a_process_that_cannot_be_started_ends_no_reaper(start_host: StartHost) -> None:
    """A variable that no process can have refuses the load, with the cause; the reaper lives on."""
    host = await start_host(load=False, environ={**os.environ, "GREETING": "he\0llo"}, pass_env=("GREETING",))
    reaper = host.supervisor.reaper_identity
    outcome = await host.supervisor.load()
    assert not outcome.accepted
    assert "embedded null byte" in outcome.reasons[0]
    assert host.supervisor.reaper_identity == reaper


async def test_a_reaper_killed_before_it_serves_leaves_no_attempt_behind(start_host: StartHost) -> None:
    """A host whose reaper is being replaced accepts nothing that could never end; a third reaper serves."""
    reapers: list[ProcessIdentity] = []
    taken: list[str] = []
    refused: list[str] = []

    def strike() -> None:
        try:
            taken.append(host.run("polite:noop"))
        except Refused as refusal:
            refused.append(refusal.reason_code)
        os.kill(reapers[1].pid, signal.SIGKILL)

    def note(reaper: ProcessIdentity) -> None:
        reapers.append(reaper)
        if len(reapers) == 2:
            asyncio.get_running_loop().call_soon(strike)

    host = await start_host(on_reaper=note)
    os.kill(reapers[0].pid, signal.SIGKILL)
    await eventually(lambda: (info := host.supervisor.loader.serving) is not None and info.number == 2)
    assert len(reapers) == 3
    assert refused == ["host_has_no_reaper"]
    for key in taken:
        await host.sink.end_of(key)
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED


async def _template(host: Host, number: int) -> TemplateHandle:
    """Return a template in the turn of the loop in which it is started, before it can have answered."""
    while (template := host.supervisor.loader._templates.get(number)) is None:
        await asyncio.sleep(0)
    return template


async def test_loads_asked_for_while_a_reaper_dies_come_to_an_end(start_host: StartHost) -> None:
    """The one that was under way is refused, the one behind it too if there is no reaper, and the host serves."""
    host = await start_host()
    reaper = host.supervisor.reaper_identity.pid
    loads = [asyncio.ensure_future(host.supervisor.load()) for _ in range(2)]
    await _template(host, 2)
    os.kill(reaper, signal.SIGKILL)
    outcomes = await asyncio.wait_for(asyncio.gather(*loads), 60)
    assert "reaper" in outcomes[0].reasons[0]
    assert "reaper" in outcomes[1].reasons[0]
    await eventually(lambda: host.supervisor.reaper_identity.pid not in (0, reaper))
    assert (await host.supervisor.load()).accepted
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED


@pytest.mark.parametrize(("answer_first", "served"), [(True, 2), (False, 1)])
async def test_a_template_that_dies_with_its_answer_under_way_is_not_served(
    start_host: StartHost, *, answer_first: bool, served: int
) -> None:
    """Killed between its answer and the end of the load: steps run in spawned workers, and none waits for ever.

    Where its end is heard first, the load is refused.
    """
    host = await start_host()
    reaper = host.supervisor.reaper_identity.pid
    load = asyncio.ensure_future(host.supervisor.load())
    template = (await _template(host, 2))._link
    # This loop stands still here, so that the answer and the deaths come in one turn of it.
    assert select.select([template._link], [], [], 20)[0]
    os.kill(reaper, signal.SIGKILL)
    while is_alive(reaper):
        os.sched_yield()
    first = template if answer_first else host.supervisor._reaper._link
    first.read()
    assert (await load).generation == served
    await eventually(lambda: host.supervisor.reaper_identity.pid not in (0, reaper))
    for name in ("noop", "anoop"):
        assert (await host.result(f"polite:{name}")).state is FinishedState.SUCCEEDED


async def test_a_reaper_that_cannot_be_recorded_is_not_left(start_host: StartHost) -> None:
    """A new reaper is not kept while the disk cannot record it; the first that can be recorded serves."""
    reapers: list[int] = []

    def record(reaper: ProcessIdentity) -> None:
        reapers.append(reaper.pid)
        if len(reapers) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    host = await start_host(on_reaper=record)
    os.kill(reapers[0], signal.SIGKILL)
    await eventually(lambda: (info := host.supervisor.loader.serving) is not None and info.number == 2)
    assert [is_alive(pid) for pid in reapers] == [False, False, True]
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED


async def test_a_killed_reaper_brings_no_worse_code(start_host: StartHost, tmp_path: Path) -> None:
    """The old code continues under the new reaper if the code on disk is worse."""
    plugins = tmp_path / "team" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "work.py").write_text("def step(**_):\n    return 1\n")
    host = await start_host(plugins.parent)
    reaper = host.supervisor.reaper_identity.pid
    (plugins / "work.py").write_text("def step(:\n")
    os.kill(reaper, signal.SIGKILL)
    await eventually(lambda: host.supervisor.reaper_identity.pid not in (0, reaper))
    assert (await host.result("work:step")).rows_affected == 1
    info = host.supervisor.loader.serving
    assert info is not None
    assert info.number == 1


@contextmanager
def withheld_end(pid: int) -> Iterator[None]:
    """Trace a process, as a debugger does: its end, even by SIGKILL, shows only once the tracer has looked at it."""
    seize = 0x4206
    if ctypes.CDLL(None, use_errno=True).ptrace(seize, pid, 0, 0):
        pytest.skip(f"this machine allows no tracing: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.waitpid(pid, 0)


async def test_what_does_not_end_holds_up_only_its_own_step(start_host: StartHost, marker: Path) -> None:
    """A dead worker's child that outlives SIGKILL, as on a disk that is away, keeps back that step's end only."""
    host = await start_host(spare_exclusive=0)
    key = host.run("hostile.stubborn:daemonises_and_stays", {"marker": str(marker)})
    worker = await host.started_in(marker)
    with withheld_end(int(Path(f"{marker}.child").read_text())):
        os.kill(worker, signal.SIGKILL)
        await eventually(lambda: not Path(f"/proc/{worker}").exists())  # its reaper knows
        assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED
        assert key not in host.sink.ends
    assert (await host.sink.end_of(key)).reason_code == "worker_died"


async def test_a_killed_template_is_survived(start_host: StartHost) -> None:
    """A generation whose template is killed continues with spawned workers; what it was to fork is asked for again."""
    host = await start_host(spare_exclusive=0)
    reaper = host.supervisor.reaper_identity.pid

    template = pids_below(reaper)[0]  # the first that a reaper starts
    os.kill(template, signal.SIGKILL)
    await eventually(lambda: not is_alive(template))
    while (end := await host.result("polite:noop")).state is not FinishedState.SUCCEEDED:
        assert (end.reason_code, end.not_started) == ("host_refused", True)
    serving = host.supervisor.loader.serving
    assert serving is not None
    assert not serving.forkable


def test_killed_main_leaves_nothing(tmp_path: Path) -> None:
    """kill -9 of the main process: reaper, template, workers, a daemon in its own session are gone in a second."""
    script = Path(__file__).with_name("main_process.py")
    command, environ = [sys.executable, str(script), str(tmp_path)], {**os.environ, "PYTHONPATH": str(SUITE)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as main:
        try:
            assert main.stdout is not None
            pids = json.loads(main.stdout.readline())
            assert len(pids["lasting"]) == 5
            assert still_alive(pids["lasting"]) == pids["lasting"]
        finally:
            main.kill()
    assert still_alive(pids["lasting"] + pids["passing"], seconds=30) == []


async def test_stop_kills_what_runs(start_host: StartHost, marker: Path) -> None:
    """stop() fails what runs with host_draining and leaves no process."""
    host = await start_host()
    key = host.run("hostile.stubborn:daemonises_and_stays", {"marker": str(marker)})
    pid = await host.started_in(marker)
    await host.supervisor.stop()
    assert host.sink.ends[key].reason_code == "host_draining"
    assert not is_alive(pid)
    assert not is_alive(int(Path(f"{marker}.child").read_text()))


async def test_memory_limit(start_host: StartHost) -> None:
    """A tree over memory_mb is killed with the reason memory_limit."""
    host = await start_host(memory_mb=200)
    end = await host.result("hostile.deadly:eats_memory")
    assert (end.state, end.reason_code) == (FinishedState.FAILED, "memory_limit")
    assert host.supervisor.mechanism in ("sampling", "cgroup")


async def test_process_limit(start_host: StartHost) -> None:
    """A tree with more than max_processes is killed with the reason process_limit."""
    host = await start_host(max_processes=10)
    end = await host.result("hostile.deadly:has_many_processes")
    assert (end.state, end.reason_code) == (FinishedState.FAILED, "process_limit")


async def test_workers_are_what_they_should_be(start_host: StartHost, spawn_only: bool) -> None:
    """A worker is the reaper's child in its own session, nice, with its own random numbers, without a secret."""
    environ = {**os.environ, "NOMAFLOW_HOST_TOKEN": "s3cret", "DB_PASSWORD": "x", "KEPT": "y", "OF_THE_HOST": "z"}
    named = ("DB_PASSWORD", "KEPT")
    host = await start_host(spawn_only=spawn_only, nice=3, environ=environ, secret_names=named, pass_env=("KEPT",))
    first, second = [await host.result("polite:awhoami", isolation=Isolation.EXCLUSIVE) for _ in range(2)]
    assert first.extras_json != second.extras_json
    reaper = host.supervisor.reaper_identity.pid
    seen = json.loads(first.extras_json)
    assert seen["ppid"] == reaper
    assert os.getsid(seen["pid"]) == seen["pid"]
    assert Path(f"/proc/{seen['pid']}/oom_score_adj").read_text().strip() == "500"
    assert (await host.result("polite:nice")).rows_affected == os.nice(0) + 3
    for name, seen in (
        ("NOMAFLOW_HOST_TOKEN", b"null"),
        ("DB_PASSWORD", b"null"),
        ("KEPT", b'"y"'),
        ("OF_THE_HOST", b"null"),
    ):
        end = await host.result("polite:environment", {"name": name})
        assert end.extras_json == b'{"value":' + seen + b"}"


@shared
async def test_use_is_measured(host: Host) -> None:
    """Peak resident memory and processor time are those of the attempt, in a worker used before."""
    end = await host.result("polite:burns", {"seconds": 0.2})
    assert 0.15 < end.cpu_seconds < 1.5
    assert end.peak_rss_bytes > 64 * 1024 * 1024
    after = await host.result("polite:noop")
    assert after.cpu_seconds < end.cpu_seconds
    assert after.peak_rss_bytes < end.peak_rss_bytes


async def test_workers_are_recycled(start_host: StartHost) -> None:
    """A worker that has run its steps is replaced."""
    host = await start_host(recycle_after_steps=3, spare_exclusive=1, shared_workers=1)
    for kind in ("whoami", "awhoami"):
        pids = [(await host.result(f"polite:{kind}")).extras_json.split(b",")[0] for _ in range(7)]
        assert len(set(pids)) >= 3


async def test_workers_that_grow_are_recycled(start_host: StartHost) -> None:
    """A worker that has grown by more than recycle_growth_mb is replaced once idle; one that grows less is kept."""
    host = await start_host(recycle_growth_mb=64, spare_exclusive=1)
    for megabytes, workers in ((8, 1), (100, 4)):
        ends = [await host.result("polite:grows", {"megabytes": megabytes}) for _ in range(4)]
        assert len({end.extras_json for end in ends}) == workers


@shared
async def test_a_clean_worker_is_used_again(host: Host) -> None:
    """Sync steps that end cleanly reuse their worker."""
    pids = {(await host.result("polite:whoami")).extras_json.split(b",")[0] for _ in range(10)}
    assert len(pids) <= 2
