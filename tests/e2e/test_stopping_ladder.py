"""Stops: the code of a CANCELED run has stopped, whatever it was doing; the system and the code are the witnesses."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from launched_system import LaunchedSystem
from ray_cluster import ray_cluster
from slurm_cluster import slurm_cluster
from team_system import Ledger, TeamSystem, reason_of

from nomaflow.client.values import RunView
from processes import is_alive

pytestmark = pytest.mark.e2e

GRACE = 0.2
DEAF = (
    "tight_loop",
    "beats",
    "swallows_everything",
    "holds_the_gil",
    "waits_for_a_child",
    "deaf_child",
    "daemonises_and_stays",
    "daemonises_and_is_deaf",
    "catches_and_goes_on",
    "blocks_the_loop",
    "async_tight_loop",
    "deaf_worker",
    "in_to_thread",
    "in_executor",
    "in_own_thread",
    "in_deaf_task",
)
POLITE = ("awaits", "polls")
LEAVING = ("daemonises", "leaves_a_thread", "leaves_work", "leaves_a_task")


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """A run that is over, and what was seen the moment it was said to be."""

    run: RunView
    ledger: Ledger
    still_alive: tuple[int, ...]
    seconds: float
    log: str


@pytest.fixture(scope="module", params=["plain", "slurm", "ray"])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamSystem]:
    """A kernel and a host with room for every hostile callable at once, which nobody or an engine has started."""
    with contextlib.ExitStack() as stack:
        host = ("max_sync = 40", f"cancel_grace_seconds = {GRACE}")
        engine: dict[str, Any] = {"max_instances": 1, "idle_exit_seconds": 600}
        match request.param:
            case "slurm":
                environ = stack.enter_context(slurm_cluster()).environ
            case "ray":
                cluster = stack.enter_context(ray_cluster())
                environ, engine = cluster.environ, {**engine, "engine": "ray", "ray_address": cluster.address}
        made = LaunchedSystem(root=tmp_path_factory.mktemp("ladder"))
        stack.callback(made.close)
        made.begin()
        if request.param == "plain":
            made.start_host("team", settings=host)
        else:
            made.launcher(environ, host=host, more='[[launcher.shapes]]\nname = "all"\nsteps = 100', **engine)
        yield made


@pytest.fixture(scope="module")
def canceled(system: TeamSystem) -> dict[str, Stopped]:
    """Run every callable at once, cancel each as soon as it runs, and note what the system says when it is over."""
    before = system.api.get_kernel().last_event_seq
    ledgers = {job: system.ledger() for job in (*DEAF, *POLITE)}
    runs = {job: system.start(job, ledger) for job, ledger in ledgers.items()}
    began = {}
    for job, run_id in runs.items():
        ledgers[job].wait_for("start")
        began[job] = time.monotonic()
        system.api.cancel(run_id, why="enough")
    ended: dict[str, Stopped] = {}
    for event in system.api.watch_events(after_seq=before, kinds=["run.finished"]):
        seconds = time.monotonic() - began[event.job_id]
        ended[event.job_id] = _seen(system, system.run(event.run_id), ledgers[event.job_id], seconds)
        if len(ended) == len(runs):
            break
    return ended


@pytest.fixture(scope="module")
def returned(system: TeamSystem) -> dict[str, Stopped]:
    """Run every callable that leaves something behind when it returns."""
    ledgers = {job: system.ledger() for job in LEAVING}
    runs = {job: system.start(job, ledger) for job, ledger in ledgers.items()}
    return {job: _seen(system, system.end(run_id), ledgers[job], 0.0) for job, run_id in runs.items()}


def _seen(system: TeamSystem, run: RunView, ledger: Ledger, seconds: float) -> Stopped:
    named = {entry.get("child", entry["pid"]) for entry in ledger.entries()}
    still = tuple(pid for pid in named if is_alive(pid))
    return Stopped(run=run, ledger=ledger, still_alive=still, seconds=seconds, log=system.run_log(run.run_id))


def _rung(log: str, stage: int) -> float:
    """Return the seconds after which a log says that a stage was reached."""
    (seconds,) = re.findall(rf"not stopped after ([\d.]+) s: .* \(stage {stage} of 4\)", log)
    return float(seconds)


@pytest.mark.parametrize("job", DEAF)
def test_deaf_code_is_dead_when_canceled_is_said(canceled: dict[str, Stopped], job: str) -> None:
    """A CANCELED run has no live process; its log has the ladder, with the grace used and each rung's time."""
    stopped = canceled[job]
    attempt = stopped.run.steps[0].last
    assert (stopped.run.state, attempt.state) == ("CANCELED", "CANCELED")
    assert reason_of(attempt) == reason_of(stopped.run) == "canceled_by_user"
    assert stopped.still_alive == ()
    assert f"asked to stop, {GRACE:g} s of grace (stage 1 of 4)" in stopped.log
    assert _rung(stopped.log, 2) >= GRACE
    assert "stopped: none of its code runs any more" in stopped.log


@pytest.mark.parametrize("job", DEAF)
def test_the_run_tells_how_its_code_was_stopped(canceled: dict[str, Stopped], job: str) -> None:
    """Each rung with its time, the proof after the last, how the process ended, and a log of which nothing is missing."""
    attempt = canceled[job].run.steps[0].last
    assert attempt.stop is not None
    rungs = attempt.stop.rungs
    assert [rung.rung for rung in rungs] == sorted({rung.rung for rung in rungs})
    assert rungs[0].rung == 1
    assert "canceled" in rungs[0].why or "cancel requested" in rungs[0].why
    assert [rung.after_seconds for rung in rungs] == sorted(rung.after_seconds for rung in rungs)
    assert attempt.stop.stopped_at is not None
    assert rungs[-1].at is not None
    assert attempt.stop.stopped_at >= rungs[-1].at
    assert (rungs[-1].next_at is None) == (rungs[-1].rung == 4)
    assert attempt.log is not None
    assert attempt.log.complete
    if len(rungs) == 4:
        assert attempt.exit is not None
        assert attempt.exit.text


def test_the_deafest_needs_every_rung(canceled: dict[str, Stopped]) -> None:
    """A worker that swallows every exception and ignores SIGTERM goes at the fourth rung, grace and two seconds on."""
    for stage, seconds in ((2, GRACE), (3, GRACE + 1), (4, GRACE + 2)):
        assert _rung(canceled["deaf_worker"].log, stage) >= seconds
    assert "(stage 4 of 4)" not in canceled["tight_loop"].log


def test_heartbeats_stand_still(canceled: dict[str, Stopped]) -> None:
    """The ledgers of stopped code do not grow any more."""
    sizes = {job: one.ledger.file.stat().st_size for job, one in canceled.items()}
    time.sleep(0.3)  # the absence of fifteen heartbeats cannot be waited for in another way
    assert {job: one.ledger.file.stat().st_size for job, one in canceled.items()} == sizes


def test_everything_is_dead_soon(canceled: dict[str, Stopped]) -> None:
    """Though seventeen of them fight for the processors, each is over in its grace and the rungs after it."""
    assert {job: one.seconds for job, one in canceled.items() if job in DEAF and one.seconds > 30} == {}


def test_polite_code_is_stopped_by_asking(canceled: dict[str, Stopped]) -> None:
    """An await is cancelled, a polling step returns with its result kept; no second rung, and the worker lives on."""
    for job in POLITE:
        assert canceled[job].run.state == "CANCELED"
        assert "(stage 2 of 4)" not in canceled[job].log
        assert canceled[job].still_alive != ()
    assert canceled["polls"].run.steps[0].last.rows_affected == 42


@pytest.mark.parametrize("job", LEAVING)
def test_what_outlives_a_return_is_dead_first(returned: dict[str, Stopped], job: str) -> None:
    """SUCCEEDED is reported once the step's leftovers are gone, and a line says what they were."""
    left = returned[job]
    assert left.run.state == "SUCCEEDED"
    assert left.run.rows_affected in (1, 7)
    beating = {entry["pid"] for entry in left.ledger.entries("beat")}
    assert not any(is_alive(pid) for pid in beating)
    assert "running when it returned" in left.log


def test_cancel_from_the_command_line(system: TeamSystem) -> None:
    """``nomaflow cancel`` by another client stops the run; who and why are recorded; later cancels change nothing."""
    ledger = system.ledger()
    run_id = system.start("beats", ledger)
    pid = ledger.pid()
    done = system.command("cancel", run_id, "--why", "too slow", "--wait")
    assert done.code in (0, 3), done.err
    assert not is_alive(pid)
    run = system.run(run_id)
    assert run.cancel is not None
    assert run.cancel.why == "too slow"
    again = system.client("bob").cancel(run_id, why="me too")
    assert (again.state, again.cancel) == ("CANCELED", run.cancel)
