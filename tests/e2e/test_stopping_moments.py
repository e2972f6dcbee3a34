"""A cancel at any moment, from anybody, with the kernel up or down: the run is CANCELED, and stays so."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from team_system import TeamSystem, reason_of

from nomaflow.client.values import EventView, RunView
from processes import is_alive
from real_system import Running, eventually

pytestmark = pytest.mark.e2e


_AFTER = ("SUCCEEDED", "CANCELED")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamSystem]:
    """A kernel with one host, which it does not give up while a test freezes it: values are checked there, too."""
    made = TeamSystem(root=tmp_path_factory.mktemp("moments"))
    made.start_kernel()
    made.project("hostile")
    made.start_host("hostile", settings=("max_sync = 20",))
    yield made
    made.close()


@pytest.fixture
def host(system: TeamSystem) -> Running:
    """The host."""
    return system.parts["hostile"]


def test_in_a_retry_back_off(system: TeamSystem) -> None:
    """A run that waits an hour for its next attempt is CANCELED at once; the attempt never starts."""
    ledger = system.ledger()
    run_id = system.start("backs_off", ledger)
    eventually(lambda: len(system.run(run_id).steps[0].attempts) == 2)
    run = system.api.cancel(run_id)
    run = system.end(run_id)
    assert run.state == "CANCELED"
    assert [one.state for one in run.steps[0].attempts] == ["FAILED", "CANCELED"]
    assert len(ledger.entries("start")) == 1


def test_queued(system: TeamSystem) -> None:
    """A queued run is CANCELED without a start; the one before it continues."""
    first, second = system.ledger(), system.ledger()
    running = system.start("one_at_a_time", first)
    first.wait_for("start")
    waiting = system.start("one_at_a_time", second)
    assert system.run(waiting).state == "QUEUED"
    run = system.api.cancel(waiting, why="not today")
    assert (run.state, reason_of(run)) == ("CANCELED", "canceled_by_user")
    system.api.cancel(running)
    assert system.end(running).state == "CANCELED"
    assert second.entries() == []
    assert system.run(waiting).state == "CANCELED"


def test_dispatched_and_not_yet_started(system: TeamSystem, host: Running) -> None:
    """A cancel right behind the dispatch leaves no code running, whether or not the callable was called."""
    ledger = system.ledger()
    os.kill(host.pid, signal.SIGSTOP)
    try:
        run_id = system.start("beats", ledger)
        eventually(lambda: system.run(run_id).steps[0].last.state == "DISPATCHED")
        asked = system.api.cancel(run_id)
        assert asked.state == "RUNNING"
        assert asked.cancel is not None
    finally:
        os.kill(host.pid, signal.SIGCONT)
    run = system.end(run_id)
    assert (run.state, run.steps[0].last.state) == ("CANCELED", "CANCELED")
    beats = ledger.entries()
    assert len(ledger.entries("start")) <= 1
    system.end(system.start("brief", system.ledger(), seconds=0.2))
    assert ledger.entries() == beats


def test_at_the_same_instant_as_the_result(system: TeamSystem) -> None:
    """The first committed of two ends wins, for every offset; a canceled run never continues, nothing changes later."""
    ledgers = [system.ledger() for _ in range(24)]
    runs: list[str] = []
    for number, ledger in enumerate(ledgers):
        run_id = system.start("brief", ledger, seconds=0.004 * (number % 6))
        if number % 2:
            ledger.wait_for("start")
        system.api.cancel(run_id)
        runs.append(run_id)
    ended = [system.end(run_id) for run_id in runs]
    for run, ledger in zip(ended, ledgers, strict=True):
        went_on = bool(ledger.entries("second"))
        if run.state == "SUCCEEDED":
            assert went_on
            assert [step.last.state for step in run.steps] == ["SUCCEEDED", "SUCCEEDED"]
            continue
        assert run.state == "CANCELED", run
        assert run.cancel is not None
        first, second = (step.last.state for step in run.steps)
        # A result that was on its way when the cancel was committed stands for its attempt; the run is CANCELED.
        assert first == "CANCELED" or (first, second) in {("SUCCEEDED", each) for each in (*_AFTER, "SKIPPED")}
        assert went_on <= (second in _AFTER)
    assert "CANCELED" in {run.state for run in ended}
    assert [system.run(run_id) for run_id in runs] == ended


def test_a_second_cancel_by_another(system: TeamSystem) -> None:
    """A second cancel during a stop does nothing: the first who and why stay."""
    ledger = system.ledger()
    run_id = system.start("swallows_everything", ledger)
    ledger.wait_for("start")
    first = system.client("ann").cancel(run_id, why="first")
    second = system.client("bob").cancel(run_id, why="second")
    assert first.cancel == second.cancel
    run = system.end(run_id)
    assert run.cancel is not None
    assert (run.cancel.by, run.cancel.why) == ("owner (for ann)", "first")
    assert run.reason is not None
    assert run.reason.message == "canceled by owner (for ann): first"


def test_after_the_end(system: TeamSystem) -> None:
    """Cancelling what has ended changes nothing and is no error."""
    run_id = system.start("brief", system.ledger())
    before = system.end(run_id)
    assert before.state == "SUCCEEDED"
    after = system.api.cancel(run_id)
    assert after.state == "SUCCEEDED"
    assert system.run(run_id) == before


def test_asked_while_the_kernel_is_down(system: TeamSystem, host: Running) -> None:
    """A client that asks while there is no kernel has its cancel delivered when it is back; meanwhile the code runs."""
    ledger = system.ledger()
    run_id = system.start("beats", ledger)
    pid = ledger.pid()
    asking = system.client("bob")
    asking.get_run(run_id)
    system.kill("kernel")
    answers: list[RunView] = []
    thread = threading.Thread(target=lambda: answers.append(asking.cancel(run_id, why="meanwhile")))
    thread.start()
    beats = len(ledger.entries("beat"))
    eventually(lambda: len(ledger.entries("beat")) > beats + 5)
    assert is_alive(pid)
    system.start_kernel()
    thread.join(30)
    assert answers
    assert answers[0].cancel is not None
    run = system.end(run_id)
    assert (run.state, run.cancel.by if run.cancel else "") == ("CANCELED", "owner (for bob)")
    assert not is_alive(pid)


def test_acknowledged_and_then_the_kernel_dies(system: TeamSystem, host: Running) -> None:
    """A cancel that was acknowledged is not lost with the kernel: it is delivered when kernel and host meet again."""
    ledger = system.ledger()
    run_id = system.start("beats", ledger)
    pid = ledger.pid()
    os.kill(host.pid, signal.SIGSTOP)
    try:
        system.api.cancel(run_id, why="in time")
        system.kill("kernel")
        assert is_alive(pid)
        system.start_kernel()
        run = system.run(run_id)
        assert (run.state, run.cancel.why if run.cancel else "") == ("RUNNING", "in time")
    finally:
        os.kill(host.pid, signal.SIGCONT)
    run = system.end(run_id)
    assert run.state == "CANCELED"
    assert not is_alive(pid)


def events_of(system: TeamSystem, run_id: str) -> list[EventView]:
    """Return the events of a run that is over."""
    return [item for item in system.api.watch_run(run_id) if isinstance(item, EventView)]


def test_ended_while_the_kernel_is_down(system: TeamSystem) -> None:
    """A stop that completes without the kernel is reported to the next one, once, and is final there."""
    ledger = system.ledger()
    run_id = system.start("swallows_everything", ledger)
    pid = ledger.pid()
    system.api.cancel(run_id)
    host = system.parts["hostile"]
    eventually(lambda: any("(stage 1 of 4)" in line and run_id in line for line in host.log.splitlines()))
    system.kill("kernel")
    eventually(lambda: not is_alive(pid))
    system.start_kernel()
    run = system.end(run_id)
    assert run.state == "CANCELED"
    stop, log = run.steps[0].last.stop, run.steps[0].last.log
    assert stop is not None
    assert [rung.rung for rung in stop.rungs][:2] == [1, 2]
    assert stop.stopped_at is not None
    assert log is not None
    assert log.complete
    told = [event for event in events_of(system, run_id) if event.kind == "attempt.stopping"]
    assert [event.data["rung"] for event in told] == [rung.rung for rung in stop.rungs]
    system.kill("kernel")
    system.start_kernel()
    assert system.run(run_id) == run
