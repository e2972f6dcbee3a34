"""Hosts that are started for one attempt: they run it, tell all of it, and end; nobody else gets it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from team_system import NOTING_STEPS, TeamSystem, reason_of

from nomaflow.client.values import InstanceView
from processes import still_alive
from real_system import Running, eventually, run_to_end

pytestmark = pytest.mark.e2e

CODE = (
    NOTING_STEPS
    + """
def work(*, ledger, wait="", fail=False, **_):
    note(ledger, "start")
    while wait and not Path(wait).exists():
        time.sleep(0.02)
    if fail:
        raise ValueError("as told")
    print("done in a box")
"""
)
JOBS = """
[[jobs]]
id = "box"
overlap = "allow"
steps = [{ callable = "work:work", image = "team/train:2.1", resources = { cpu = 1 } }]

[[jobs]]
id = "twice"
isolation = "instance"
retry = { attempts = 2, base_seconds = 0 }
steps = [{ callable = "work:work" }]

[[jobs]]
id = "plain"
steps = [{ callable = "work:work" }]
"""
BUSY = 75
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamSystem]:
    """A kernel, and one host with an instance that takes any step but those."""
    made = TeamSystem(root=tmp_path_factory.mktemp("own"), forks_templates=True)
    made.start_kernel()
    made.project("team", {"jobs.toml": JOBS, "plugins/work.py": CODE})
    made.start_host("team", settings=["max_sync = 2", "cancel_grace_seconds = 1"])
    yield made
    made.close()


def _came(system: TeamSystem, key: str, name: str = "") -> Running:
    """Start a host for one attempt; a later life of it has the name of the first."""
    name = name or f"own-{next(_NUMBERS)}"
    flags = ("--name", "team", "--kernel", system.kernel_address, "--state-dir", str(system.root / name))
    return system.launch_host(name, system.root / "team", *flags, "--for-attempt", key)


def _instance(system: TeamSystem, part: Running) -> InstanceView | None:
    view = system.host_view("team")
    return next((one for one in view.instances if one.pid == part.pid), None) if view else None


def test_a_step_runs_in_its_own_instance_which_then_ends(system: TeamSystem) -> None:
    """A launcher is told which; the log is complete; the instance takes nothing else, and nobody misses it."""
    ledger = system.ledger()
    go = Path(f"{ledger.file}.go")
    run_id = system.start("box", ledger, wait=str(go))
    key = f"{run_id}/work/1"
    view = system.run(run_id)
    assert (view.state, reason_of(view)) == ("QUEUED", "waiting_for_own_instance")
    (wanted,) = system.api.list_wanted()
    assert (wanted.host, wanted.attempts, wanted.attempt_key, wanted.image) == ("team", 1, key, "team/train:2.1")
    own = _came(system, key)
    ledger.wait_for("start")
    assert system.api.list_wanted() == []
    shown = system.cli("hosts").out
    assert f"attempt {key} alone" in shown
    there = eventually(lambda: one if (one := _instance(system, own)) and one.running else None)
    assert (there.for_attempt, there.max_sync, there.running) == (key, 1, 1)
    plain = system.end(system.start("plain", system.ledger()))
    assert plain.state == "SUCCEEDED"
    assert plain.steps[0].attempts[0].incarnation != there.incarnation
    go.touch()
    ended = system.end(run_id)
    assert (ended.state, ended.steps[0].attempts[0].incarnation) == ("SUCCEEDED", there.incarnation)
    assert own.process.wait(30) == 0
    assert "the attempt that this host was started for has ended" in own.log
    assert "done in a box" in system.run_log(run_id)
    eventually(lambda: _instance(system, own) is None)


def test_a_second_process_for_an_attempt_is_refused(system: TeamSystem) -> None:
    """While the first runs it, and while the kernel that gave it away is replaced; the step runs once."""
    ledger = system.ledger()
    go = Path(f"{ledger.file}.go")
    run_id = system.start("box", ledger, wait=str(go))
    key = f"{run_id}/work/1"
    own = _came(system, key)
    ledger.wait_for("start")
    second = _came(system, key)
    assert second.process.wait(30) == BUSY
    assert f"attempt '{key}' belongs to instance" in second.log
    system.kill("kernel")
    system.start_kernel()
    third = _came(system, key)
    assert third.process.wait(30) == BUSY
    go.touch()
    assert system.end(run_id).state == "SUCCEEDED"
    assert own.process.wait(30) == 0
    assert len(ledger.entries("start")) == 1


def test_an_instance_that_is_not_needed_any_more_ends(system: TeamSystem) -> None:
    """Canceled before it has come, or while it waits for room: the instance ends with 0, and says why."""
    late = system.start("box", system.ledger())
    system.api.cancel(late)
    own = _came(system, f"{late}/work/1")
    assert own.process.wait(30) == 0
    assert "waits for no instance of its own: it is over" in own.log
    system.api.pause(job_id="box")
    waiting = system.start("box", system.ledger())
    early = _came(system, f"{waiting}/work/1")
    eventually(lambda: (there := _instance(system, early)) is not None and there.state == "ATTACHED")
    assert system.run(waiting).state == "QUEUED"
    system.api.cancel(waiting)
    assert early.process.wait(30) == 0
    assert "waits for no instance of its own: it is over" in early.log
    system.api.resume(job_id="box")


def test_other_code_in_an_image_does_not_change_the_catalogue(system: TeamSystem) -> None:
    """The image may be of another release: it runs what it has the very definition of, and brings no jobs."""
    image = system.root / "image"
    shutil.copytree(system.root / "team", image, ignore=shutil.ignore_patterns(".nomaflow"))
    with open(image / "jobs.toml", "a", encoding="utf-8") as jobs:
        jobs.write('[[jobs]]\nid = "of_image"\nsteps = [{ callable = "work:work" }]\n')
    run_id = system.start("box", system.ledger())
    before = system.host_view("team")
    flags = ("--name", "team", "--kernel", system.kernel_address, "--for-attempt", f"{run_id}/work/1")
    own = system.launch_host("own", image, *flags)
    assert system.end(run_id).state == "SUCCEEDED"
    assert own.process.wait(30) == 0
    after = system.host_view("team")
    assert before is not None
    assert after is not None
    assert (after.manifest_digest, after.job_count) == (before.manifest_digest, before.job_count)


def test_a_retry_is_an_attempt_for_another_instance(system: TeamSystem) -> None:
    """The first instance tells of the failure and ends; the second attempt waits for one of its own."""
    ledger = system.ledger()
    run_id = system.start("twice", ledger, fail=True)
    first = _came(system, f"{run_id}/work/1")
    assert first.process.wait(30) == 0
    view = eventually(lambda: view if len((view := system.run(run_id)).steps[0].attempts) == 2 else None)
    assert view.steps[0].attempts[1].state == "PENDING"
    assert reason_of(view.steps[0].attempts[1]) == "waiting_for_own_instance"
    eventually(lambda: [each.attempt_key for each in system.api.list_wanted()] == [f"{run_id}/work/2"])
    second = _came(system, f"{run_id}/work/2")
    ended = system.end(run_id)
    assert (ended.state, reason_of(ended)) == ("FAILED", "step_failed")
    assert second.process.wait(30) == 0
    assert len({entry["pid"] for entry in ledger.entries("start")}) == 2


def test_a_killed_instance_fails_the_attempt_once_its_next_life_proves_it(system: TeamSystem) -> None:
    """An engine that restarts it in the same folder gets nothing for that: the attempt is over, and it ends with 0."""
    ledger = system.ledger()
    run_id = system.start("box", ledger, wait="/nowhere")
    key = f"{run_id}/work/1"
    own = _came(system, key, "lives twice")
    pid = ledger.pid()
    own.kill()
    again = _came(system, key, "lives twice")
    assert again.process.wait(30) == 0
    ended = system.end(run_id)
    assert (ended.state, reason_of(ended)) == ("FAILED", "host_crashed")
    assert still_alive([pid], seconds=10) == []
    assert len(ledger.entries("start")) == 1


def test_a_cancel_stops_the_code_and_the_instance_ends(system: TeamSystem) -> None:
    """The instance tells how the attempt ended before it leaves."""
    ledger = system.ledger()
    run_id = system.start("box", ledger, wait="/nowhere")
    own = _came(system, f"{run_id}/work/1")
    pid = ledger.pid()
    system.api.cancel(run_id, why="enough")
    ended = system.end(run_id)
    assert (ended.state, reason_of(ended)) == ("CANCELED", "canceled_by_user")
    assert still_alive([pid]) == []
    assert own.process.wait(30) == 0


def test_a_text_that_is_no_attempt_key_is_refused(tmp_path: Path) -> None:
    """The command ends before it has done anything, with what was expected."""
    code, told = run_to_end("nomaflow_host", "--project", str(tmp_path), "--for-attempt", "run_1/a")
    assert (code, "'run_1/a' is not an attempt key; expected run_ID/STEP/NUMBER" in told) == (2, True), told
