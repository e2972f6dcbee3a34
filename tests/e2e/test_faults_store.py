"""A store that has no room, that another process holds, that is slow: the kernel says so, and loses nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import psutil
import pytest
from fault_stage import Caller, Refusal, digest_of_log, file_limit, held_lock, ledger, settled, start
from project_system import ProjectSystem, open_system

from cli_command import run_command
from real_system import CLOCKS, eventually

pytestmark = pytest.mark.e2e

JOBS = """
[[jobs]]
id = "quick"
overlap = "allow"
  [[jobs.steps]]
  callable = "team.code:quick"
  op_kwargs = { ledger = "@HERE@/quick" }

[[jobs]]
id = "tick"
schedule = "* * * * * *"
overlap = "allow"
  [[jobs.steps]]
  callable = "team.code:quick"
  op_kwargs = { ledger = "@HERE@/ticks" }

[[jobs]]
id = "speak"
overlap = "queue"
  [[jobs.steps]]
  callable = "team.code:speak"
  op_kwargs = { ledger = "@HERE@/ledger", release = "@HERE@/release" }
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectSystem]:
    """A kernel and a host, for all tests of this module."""
    folder = tmp_path_factory.mktemp("store")
    for opened in open_system(folder, forks_templates=True):
        start(opened, *CLOCKS, jobs=JOBS)
        yield opened


@pytest.fixture
def caller(system: ProjectSystem) -> Iterator[Caller]:
    """Calls that are made once."""
    made = Caller(system)
    yield made
    made.close()


@pytest.fixture
def speaking(system: ProjectSystem, caller: Caller) -> Iterator[tuple[str, str]]:
    """A run whose step has logged and waits, and one of the same job that waits for its end."""
    (system.project / "release").unlink(missing_ok=True)
    (system.project / "ledger").unlink(missing_ok=True)
    first, second = caller.trigger("speak"), caller.trigger("speak")
    assert isinstance(first, str)
    assert isinstance(second, str)
    eventually(lambda: ledger(system.project / "ledger", "waits"))
    yield first, second
    (system.project / "release").touch()


def check_speaking(system: ProjectSystem, speaking: tuple[str, str]) -> None:
    """Both runs end well: one attempt each, started once, with every line that the step logged."""
    for run_id in speaking:
        run = settled(system, run_id)
        assert (run.state, run.steps[0].last.attempt) == ("SUCCEEDED", 1)
        assert digest_of_log(system, run_id) == (2000, run.steps[0].last.extras["digest"])
    keys = [entry["key"] for entry in ledger(system.project / "ledger", "start")]
    assert keys == [f"{run_id}/speak/1" for run_id in speaking]


def check_ticks(system: ProjectSystem) -> None:
    """Every second since the first is a run or in a row, none is both."""
    runs = system.runs("tick")
    instants = sorted(
        int(at.timestamp()) + number
        for run in runs
        for at, count in [(run.fold.first, run.fold.count) if run.fold else (run.trigger.at, 1)]
        for number in range(count)
    )
    assert instants == list(range(instants[0], instants[0] + len(instants)))


def test_a_store_without_room(system: ProjectSystem, caller: Caller, speaking: tuple[str, str]) -> None:
    """Triggers are refused without a row, nothing is dispatched, steps continue, hosts hold; it recovers by itself."""
    first, _ = speaking
    wal = system.project / ".nomaflow" / "kernel.db-wal"
    process = psutil.Process(system.parts["kernel"].pid)
    answers: list[str | Refusal] = []

    def refusal() -> Refusal | None:
        answers.append(answer := caller.trigger("quick"))
        return answer if isinstance(answer, Refusal) else None

    with file_limit(process.pid, wal.stat().st_size):
        refused = eventually(refusal)
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")
        assert refused.retry_seconds
        assert not caller.serving
        used = sum(process.cpu_times()[:2])
        (system.project / "release").touch()
        [end] = eventually(lambda: ledger(system.project / "ledger", "end"))
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert refusal()
            assert not caller.serving
            time.sleep(0.1)
        assert end["key"].startswith(first)
        assert [system.run(run_id).state for run_id in speaking] == ["RUNNING", "QUEUED"]
        assert len(ledger(system.project / "ledger", "start")) == 1
        assert sum(process.cpu_times()[:2]) - used < 2.5, "it runs hot while it cannot write"
    eventually(lambda: caller.serving and system.run(first).state == "SUCCEEDED")
    check_speaking(system, speaking)
    answers.append(caller.trigger("quick"))
    assert isinstance(answers[-1], str)
    accepted = {answer for answer in answers if isinstance(answer, str)}
    assert {run.run_id for run in system.runs("quick")} == accepted
    assert {settled(system, run_id).state for run_id in accepted} == {"SUCCEEDED"}
    check_ticks(system)


def test_a_store_without_room_is_told_though_nobody_calls(system: ProjectSystem, caller: Caller) -> None:
    """A failure of the kernel's own work alone, here a schedule's fire, shows in its health, which recovers."""
    wal = system.project / ".nomaflow" / "kernel.db-wal"
    with file_limit(system.parts["kernel"].pid, wal.stat().st_size):
        eventually(lambda: not caller.serving)
    eventually(lambda: caller.serving)
    check_ticks(system)


def test_who_waits_for_a_run_is_told_that_the_store_has_no_room(
    system: ProjectSystem, speaking: tuple[str, str]
) -> None:
    """The run neither goes on nor ends, and a person learns meanwhile why."""
    wal = system.project / ".nomaflow" / "kernel.db-wal"
    command = [sys.executable, "-m", "nomaflow_cli", "run", "speak", "--wait"]
    waiting = subprocess.Popen(command, cwd=system.project, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert waiting.stderr is not None
    assert "run_" in waiting.stderr.readline().decode()
    with file_limit(system.parts["kernel"].pid, wal.stat().st_size):
        told = next(line for line in waiting.stderr if line.startswith(b"the kernel"))
    assert told.startswith(b"the kernel waits: the history store cannot grow: ")
    (system.project / "release").touch()
    _, rest = waiting.communicate(timeout=30)
    assert (waiting.returncode, rest.decode().splitlines()[:1]) in ((0, []), (0, ["the kernel works again"]))
    check_ticks(system)


def test_a_reload_is_told_that_the_store_has_no_room(system: ProjectSystem) -> None:
    """It is answered as soon as a trigger would be; the new code serves, and its jobs follow once there is room."""
    wal = system.project / ".nomaflow" / "kernel.db-wal"
    jobs = system.project / "jobs.toml"
    with file_limit(system.parts["kernel"].pid, wal.stat().st_size):
        jobs.write_text(jobs.read_text().replace('id = "quick"', 'id = "quick"\ndescription = "soon"'))
        begun = time.monotonic()
        done = run_command("reload", folder=system.project)
        assert time.monotonic() - begun < 20, "it has waited for room"
        assert (done.code, "the history store cannot grow" in done.err) == (2, True), done
    eventually(lambda: system.jobs()["quick"].description == "soon")
    check_ticks(system)


def test_a_store_that_another_process_holds(system: ProjectSystem, caller: Caller, speaking: tuple[str, str]) -> None:
    """A call waits five seconds and gets STORE_BUSY; work due meanwhile is not lost, and no run is half stored."""
    before = {run.run_id for run in system.runs("quick")}

    def refusal_of(request_id: str) -> tuple[str | Refusal, float]:
        return caller.trigger("quick", request_id), time.monotonic()

    with held_lock(system):
        begun = time.monotonic()
        (system.project / "release").touch()
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(refusal_of, "busy")
            eventually(lambda: time.monotonic() > begun + 3)
            late = pool.submit(refusal_of, "late")
        for refused, _ in (first.result(), late.result()):
            assert isinstance(refused, Refusal)
            assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_BUSY")
            assert refused.retry_seconds
        apart = late.result()[1] - first.result()[1]
        assert apart < 5, "who came while others waited does not wait once more"
        assert not caller.serving
        assert {run.run_id for run in system.runs("quick")} == before, "reading goes on"
        eventually(lambda: time.monotonic() > begun + 7)
        eventually(lambda: [host["state"] for host in system.hosts()] == ["ATTACHED"])
    run_id = eventually(lambda: answer if isinstance(answer := caller.trigger("quick", "busy"), str) else None)
    assert {run.run_id for run in system.runs("quick")} == before | {run_id}
    assert settled(system, run_id).state == "SUCCEEDED"
    check_speaking(system, speaking)
    eventually(lambda: caller.serving)
    check_ticks(system)
