"""Effects of a stop on others (retries, slots, neighbours, parents and children), and of limits."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from team_system import TeamSystem, reason_of

from processes import is_alive
from real_system import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamSystem]:
    """A kernel with one host that has a single slot for sync steps, one shared worker, and limits."""
    made = TeamSystem(root=tmp_path_factory.mktemp("others"))
    made.start_kernel()
    made.project("hostile")
    limits = ("memory_mb = 200", "max_processes = 10", "nice = 2", "recycle_after_steps = 2")
    made.start_host("hostile", settings=("max_sync = 1", "shared_workers = 1", *limits))
    yield made
    made.close()


# --- retries and slots ------------------------------------------------------------------------------------------------


def test_a_step_timeout_is_retried_and_never_overlaps(system: TeamSystem) -> None:
    """Three attempts of a deaf step, each timed out: none begins before the process of the one before is dead."""
    ledger = system.ledger()
    run = system.end(system.start("step_timeout", ledger))
    assert (run.state, reason_of(run)) == ("FAILED", "timed_out")
    attempts = run.steps[0].attempts
    assert [(one.state, reason_of(one)) for one in attempts] == [("FAILED", "timed_out")] * 3
    starts = ledger.entries("start")
    assert [entry["key"] for entry in starts] == [f"{run.run_id}/deaf/{number}" for number in (1, 2, 3)]
    assert len({entry["pid"] for entry in starts}) == 3
    assert [entry["others"] for entry in ledger.entries("looked")] == [[], [], []]
    for before, after in itertools.pairwise(attempts):
        assert before.finished_at is not None
        assert after.started_at is not None
        assert before.finished_at <= after.started_at + timedelta(milliseconds=1)
    assert "did not finish within its timeout of 1 s" in system.run_log(run.run_id)


def test_a_job_timeout_is_not_retried(system: TeamSystem) -> None:
    """The job's own time is up: FAILED job_timed_out after one attempt, whatever the retry policy says."""
    ledger = system.ledger()
    run = system.end(system.start("job_timeout", ledger))
    assert (run.state, reason_of(run)) == ("FAILED", "job_timed_out")
    assert len(run.steps[0].attempts) == 1
    assert not is_alive(ledger.pid())


def test_a_slot_is_free_when_the_old_code_is_dead(system: TeamSystem) -> None:
    """The host has one slot: a run that waits for it begins only once the timed-out code does not run any more."""
    ledger = system.ledger()
    deaf = system.start("job_timeout", ledger)
    ledger.wait_for("start")
    waiting = system.start("after", ledger)
    assert system.run(waiting).steps[0].last.state in ("PENDING", "RUNNING", "DISPATCHED")
    assert system.end(waiting).state == "SUCCEEDED"
    assert system.end(deaf).state == "FAILED"
    assert [entry["others"] for entry in ledger.entries("after")] == [[]]


# --- neighbours -------------------------------------------------------------------------------------------------------


def test_an_exclusive_kill_touches_nobody(system: TeamSystem) -> None:
    """The kill of a deaf exclusive step does not affect the shared worker, whose steps run on in the same process."""
    ledger, told = system.ledger(), system.ledger()
    until = system.root / "told-1"
    neighbour = system.start("until_told", told, until=str(until))
    pid = told.pid()
    deaf = system.start("beats", ledger)
    ledger.wait_for("start")
    system.api.cancel(deaf)
    assert system.end(deaf).state == "CANCELED"
    assert is_alive(pid)
    until.touch()
    run = system.end(neighbour)
    assert (run.state, run.rows_affected, len(run.steps[0].attempts)) == ("SUCCEEDED", 11, 1)


def test_a_shared_kill_fails_its_neighbours_by_name(system: TeamSystem) -> None:
    """Neighbours of a deaf step in a shared worker are FAILED, naming it; it runs by itself from then on."""
    ledger, told = system.ledger(), system.ledger()
    neighbour = system.start("until_told", told, until=str(system.root / "never"))
    deaf = system.start("shared_goes_on", ledger)
    assert ledger.pid() == told.pid()
    system.api.cancel(deaf)
    hit = system.end(neighbour)
    assert (hit.state, reason_of(hit)) == ("FAILED", "worker_killed")
    assert hit.reason is not None
    assert f"step 'stubborn' of run {deaf} (stopping.async_steps:catches_and_goes_on)" in hit.reason.message
    assert system.end(deaf).state == "CANCELED"
    again, alone = system.ledger(), system.ledger()
    until = system.root / "told-2"
    second = system.start("shared_goes_on", again)
    other = system.start("until_told", alone, until=str(until))
    assert again.pid() != alone.pid()
    system.api.cancel(second)
    assert system.end(second).state == "CANCELED"
    until.touch()
    assert system.end(other).state == "SUCCEEDED"


def test_the_watchdog_names_what_blocks_a_shared_worker(system: TeamSystem) -> None:
    """The logs of run and host name the step that blocks the worker, its start and its stack."""
    ledger, told = system.ledger(), system.ledger()
    neighbour = system.start("until_told", told, until=str(system.root / "never"))
    told.wait_for("start")
    blocker = system.start("shared_blocks", ledger)
    pid = ledger.pid()
    said = eventually(lambda: re.search(r"step 'blocker' .*has blocked the event loop.*", system.run_log(blocker)))
    assert re.search(rf"shared worker {pid} since \d\d:\d\d:\d\d UTC \(\d+(\.\d)? s\)", said.group())
    assert 'async_steps.py", line' in system.run_log(blocker)
    assert "in blocks_the_loop" in system.run_log(blocker)
    assert "has blocked the event loop of shared worker" in system.parts["hostile"].log
    system.api.cancel(blocker)
    assert system.end(blocker).state == "CANCELED"
    assert reason_of(system.end(neighbour)) == "worker_killed"
    assert not is_alive(pid)


# --- call_job ---------------------------------------------------------------------------------------------------------


def test_cancelling_a_parent_cancels_its_children_and_waits(system: TeamSystem) -> None:
    """A cancel goes down a chain of two: each run is CANCELED with who and why, after its child's code is dead."""
    ledger = system.ledger()
    top = system.start("grandparent", ledger)
    pid = ledger.pid()
    system.client("bob").cancel(top, why="no longer needed")
    run = system.end(top)
    assert not is_alive(pid)
    assert (run.state, reason_of(run)) == ("CANCELED", "canceled_by_user")
    middle = system.run(run.steps[0].last.child_run_id)
    child = system.run(middle.steps[0].last.child_run_id)
    for each, caller in ((middle, top), (child, middle.run_id)):
        assert (each.state, reason_of(each)) == ("CANCELED", "canceled_by_parent")
        assert each.cancel is not None
        assert each.cancel.by == "owner (for bob)"
        assert caller in each.cancel.why
    assert middle.steps[1].last.state == "SKIPPED"
    assert ledger.entries("then") == []
    for after, before in ((run, middle), (middle, child)):
        assert after.finished_at is not None
        assert before.finished_at is not None
        assert after.finished_at >= before.finished_at


def test_cancelling_a_child_cancels_the_parents_step(system: TeamSystem) -> None:
    """The parent's step and the parent are CANCELED, naming the child's run, who canceled it and why."""
    ledger = system.ledger()
    parent = system.start("parent", ledger)
    ledger.wait_for("start")
    child = system.run(parent).steps[0].last.child_run_id
    system.client("bob").cancel(child, why="wrong month")
    run = system.end(parent)
    step = run.steps[0].last
    assert (run.state, step.state, reason_of(step)) == ("CANCELED", "CANCELED", "child_canceled")
    assert step.reason is not None
    for told in (child, "bob", "wrong month"):
        assert told in step.reason.message
    assert ledger.entries("then") == []


def test_a_job_timeout_reaches_the_child(system: TeamSystem) -> None:
    """A parent whose time is up is FAILED, not retried, once the child's code is dead."""
    ledger = system.ledger()
    run = system.end(system.start("impatient_parent", ledger))
    assert (run.state, reason_of(run)) == ("FAILED", "job_timed_out")
    assert len(run.steps[0].attempts) == 1
    assert not is_alive(ledger.pid())
    child = system.run(run.steps[0].last.child_run_id)
    assert (child.state, reason_of(child)) == ("CANCELED", "canceled_by_parent")


# --- limits -----------------------------------------------------------------------------------------------------------


def test_memory_and_processes_are_limited_by_tree(system: TeamSystem) -> None:
    """A step over a limit is dead with its whole tree and has the limit's reason; ``hosts`` shows the mechanism."""
    run = system.end(system.start("eats_memory", None))
    assert (run.state, reason_of(run)) == ("FAILED", "memory_limit")
    ledger = system.ledger()
    run = system.end(system.start("has_many_processes", ledger))
    assert (run.state, reason_of(run)) == ("FAILED", "process_limit")
    assert not any(is_alive(entry["child"]) for entry in ledger.entries("child"))
    instance = system.instance("hostile")
    assert instance is not None
    assert instance.isolation_mechanism in ("sampling", "cgroup")
    assert f"limits by {instance.isolation_mechanism}" in system.command("hosts").out


def test_use_is_on_each_attempt_and_workers_are_recycled(system: TeamSystem) -> None:
    """Peak memory and processor time of each attempt are kept; after two steps a worker is replaced."""
    attempts = [system.end(system.start("burns", None)).steps[0].last for _ in range(3)]
    for one in attempts:
        assert 0.15 < one.cpu_seconds < 2.0
        assert one.peak_rss_bytes > 64 << 20
    assert len({one.worker_pid for one in attempts}) >= 2
