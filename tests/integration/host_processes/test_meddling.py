"""Steps that meddle with the process they run in: neighbours are unharmed, or told the true cause."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from harness import Host, StartHost, is_alive, pids_below, shared

from nomaflow_api.v1.letter_words import FinishedState, Isolation
from processes import open_files
from waiting import eventually

CLOSED = "code in it has closed descriptors that the worker needs"
DAMAGED = "the memory that its log goes through is damaged"
FATAL = [
    ("closes_all", CLOSED),
    ("closes_the_lowest", CLOSED),
    ("closes_all_in_a_thread", CLOSED),
    ("closes_the_connection", CLOSED),
    ("closes_the_connection_in_a_thread", CLOSED),
    ("closes_the_selector", CLOSED),
    ("overwrites_the_header", DAMAGED),
]
HARMLESS = [
    "logs_under_a_long_name",
    "reports_at_length",
    "truncates_its_memory",
    "overwrites_a_line",
    "sets_handlers",
    "sets_a_wakeup_descriptor",
    "replaces_the_streams",
    "stops_the_loop",
    "shuts_the_executor_down",
    "sets_an_executor_and_closes_it",
    "closes_the_loop",
    "unsets_the_loop",
    "renames_itself",
    "lowers_the_limits",
]


@pytest.mark.parametrize(("name", "cause"), FATAL)
async def test_a_worker_that_is_spoilt_is_killed_for_its_true_cause(
    start_host: StartHost, marker: Path, name: str, cause: str
) -> None:
    """All attempts in a spoilt worker get the cause, its callable shares no worker again, the host keeps serving."""
    host = await start_host(shared_workers=1)
    shared = "thread" not in name
    keys = [host.run("polite:waits_for", {"marker": str(marker)})] if shared else []
    if shared:
        await eventually(Path(f"{marker}.running").exists)
    for key in (host.run(f"hostile.meddling:{name}"), *keys):
        end = await host.sink.end_of(key)
        assert (end.state, end.reason_code) == (FinishedState.FAILED, "worker_killed")
        assert cause in end.reason
    again = host.run(f"hostile.meddling:{name}")
    await host.sink.end_of(again)
    assert host.sink.starts[again].exclusive
    for later in ("polite:anoop", "polite:noop"):
        assert (await host.result(later)).state is FinishedState.SUCCEEDED


async def test_a_neighbour_is_unharmed(start_host: StartHost, marker: Path) -> None:
    """The step itself, its neighbour in the shared worker, and those that come after end as they should."""
    host = await start_host(shared_workers=1)
    for name in HARMLESS:
        waiting = marker.with_name(name)
        neighbour = host.run("polite:waits_for", {"marker": str(waiting)})
        await eventually(Path(f"{waiting}.running").exists)
        assert (await host.result(f"hostile.meddling:{name}")).rows_affected == 1, name
        waiting.touch()
        assert (await host.sink.end_of(neighbour)).rows_affected == 11, name
        for later in ("polite:anoop", "polite:athread", "polite:noop"):
            assert (await host.result(later)).state is FinishedState.SUCCEEDED, name


@shared
async def test_a_step_does_not_leave_its_handlers_behind(host: Host) -> None:
    """Signal handlers and the timer that a step set are restored for the next step in its worker."""
    for isolation, name in ((Isolation.BY_KIND, ""), (Isolation.EXCLUSIVE, "_in_a_thread")):
        assert (await host.result("hostile.meddling:sets_handlers", isolation=isolation)).rows_affected == 1
        assert (await host.result(f"hostile.meddling:has_a_child_that_fails{name}")).rows_affected == 3


async def test_a_step_does_not_leave_its_filters_of_warnings_behind(start_host: StartHost) -> None:
    """A warning neither fails the next step in its worker, nor is it missing in its log."""
    host = await start_host()
    for action in ("error", "ignore"):
        await host.result("hostile.meddling:filters_warnings", {"action": action})
        key = host.run("hostile.meddling:warns")
        end = await host.sink.end_of(key)
        assert (end.error, end.rows_affected) == ("", 1)
        assert "of its own" in host.sink.text(key)
    assert len({start.worker_pid for start in host.sink.starts.values()}) == 1


async def test_a_step_that_patches_asyncio_does_not_patch_its_worker(start_host: StartHost) -> None:
    """The worker's own machinery keeps the functions that it began with."""
    host = await start_host(shared_workers=1)
    assert (await host.result("hostile.meddling:patches_asyncio")).rows_affected == 1
    assert (await host.result("polite:anoop")).state is FinishedState.SUCCEEDED


@shared
async def test_lines_that_are_overwritten_are_counted(host: Host, marker: Path) -> None:
    """A line that code in the worker has damaged is reported as lost; its neighbours are there, and the step ends."""
    host.sink.open = False
    key = host.run("hostile.meddling:overwrites_a_line", {"marker": str(marker)})
    await eventually(marker.exists)
    host.sink.open = True
    await host.sink.end_of(key)
    messages = [line.message for line in host.sink.lines(key)]
    assert messages == ["before", "after", "1 line of the log was damaged in the worker's memory and is lost"]


@shared
async def test_recursion_without_end_fails_its_step(host: Host) -> None:
    """An endless recursion fails only its own step, as an exception."""
    assert "RecursionError" in (await host.result("hostile.meddling:recurses")).reason


LIAR = '''
import json, os, sys
from pathlib import Path

VICTIM = json.loads(Path(__file__).with_name("victim").read_text())

def _lie():
    """Answer a request for a fork, in the template's place, with the pid of somebody else's process."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_fork" and "frame" in frame.f_locals:
            template, number = frame.f_locals["self"], frame.f_locals["frame"].message["worker"]
            template._reaper.send({"is": "forked", "worker": number, "pid": VICTIM})
            template._reaper.flush_all()
            return
        frame = frame.f_back

os.register_at_fork(before=_lie)

def nothing(**_):
    return 1
'''


@pytest.mark.parametrize("named", ["a stranger", "nobody"])
async def test_a_template_cannot_make_a_stranger_its_worker(start_host: StartHost, tmp_path: Path, named: str) -> None:
    """A template that names a process which is not its own is stopped; that process gets no signal, and steps go on."""
    victim = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "plugins").mkdir()
        (tmp_path / "plugins" / "liar.py").write_text(LIAR)
        (tmp_path / "plugins" / "victim").write_text(str(victim.pid) if named == "a stranger" else "[]")
        host = await start_host(tmp_path)
        end = await host.result("liar:nothing")
        assert end.state is FinishedState.FAILED
        assert "its template named a process that it has not started" in end.reason

        async def goes_on() -> bool:
            return (await host.result("liar:nothing")).rows_affected == 1

        await eventually(goes_on)  # workers that are asked for until its end is known fail with it
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


SLANDERER = '''
import os, sys, time
from pathlib import Path

def _lie():
    """Say of the worker before, which runs, that it could not be forked."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_fork" and "frame" in frame.f_locals:
            template, number = frame.f_locals["self"], frame.f_locals["frame"].message["worker"]
            if number > 1:
                template._reaper.send({"is": "forked", "worker": number - 1, "error": "so it says"})
                template._reaper.flush_all()
            return
        frame = frame.f_back

os.register_at_fork(before=_lie)

def waits(*, marker, **_):
    Path(marker).write_text(str(os.getpid()))
    while not Path(marker + ".go").exists():
        time.sleep(0.01)
    return 1

def nothing(**_):
    return 1
'''


async def test_a_template_cannot_end_a_worker_that_runs(
    start_host: StartHost, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its step would be reported as over while it runs."""
    monkeypatch.setattr("nomaflow_host.supervisor.attempt_table._GROUP_SECONDS", 0.0)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "slanderer.py").write_text(SLANDERER)
    host = await start_host(tmp_path, spare_exclusive=0)
    key = host.run("slanderer:waits", {"marker": str(marker)})
    await host.started_in(marker)
    await host.result("slanderer:nothing")
    assert key not in host.sink.ends
    Path(f"{marker}.go").touch()
    assert (await host.sink.end_of(key)).rows_affected == 1


async def test_a_number_beyond_all_bounds_ends_the_worker(start_host: StartHost) -> None:
    """A message without sense costs its worker; passed over, it would take others that came with it along."""
    host = await start_host(shared_workers=1)
    end = await host.result("hostile.meddling:tells_an_endless_number")
    assert end.reason_code == "worker_killed"
    assert "it sent an invalid message to its host" in end.reason


@shared
async def test_descriptors_that_a_step_sends_are_not_taken(host: Host) -> None:
    """The host would soon have no descriptor left for another worker."""
    await host.result("polite:anoop")
    before = len(open_files())
    assert (await host.result("hostile.meddling:sends_descriptors")).state is FinishedState.SUCCEEDED
    assert len(open_files()) < before + 100


async def test_a_frozen_reaper_goes_on(start_host: StartHost) -> None:
    """A step that stops the process which ends steps is still reported, and those after it run."""
    host = await start_host()
    assert (await host.result("hostile.meddling:freezes_the_reaper")).reason_code == "worker_died"
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED


async def test_a_frozen_template_goes_on(start_host: StartHost) -> None:
    """A step runs though something has stopped the process that forks its worker."""
    host = await start_host(spare_exclusive=0)
    template = pids_below(host.supervisor.reaper_identity.pid)[0]
    os.kill(template, signal.SIGSTOP)
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED
    assert is_alive(template)
