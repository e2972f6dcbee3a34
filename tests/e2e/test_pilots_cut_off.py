"""Two instances of one host, of which one is on a machine that is cut off: for a grace, or for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults_system import FaultSystem, Work
from remote_stage import Remote, laid
from team_system import reason_of
from two_networks import Loopback

from nomaflow.client.values import InstanceView
from processes import is_alive
from real_system import Running, eventually

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    """Lay a cable and start a kernel at its one end."""
    with laid(Loopback()) as remote:
        remote.system.counting_project("team")
        yield remote


@pytest.fixture
def far(remote: Remote) -> Iterator[Running]:
    """Start an instance at the far end of the cable; at the end it is stopped, and the cable is whole."""
    side, state = remote.cable.host_side, remote.system.root / "far-state"
    flags = ("--join", str(remote.system.join_file("team")), "--kernel", remote.dialed, "--state-dir", str(state))
    started = remote.system.start_host("team", *flags, dials=False, side=side, settings=["drain_seconds = 1"])
    yield started
    remote.cable.heal()
    if not started.ended:
        started.stop(again_after=1.0)


@pytest.fixture
def near(remote: Remote, far: Running) -> Iterator[Running]:
    """Start an instance beside the kernel once what the test needs runs on the far one."""
    state = remote.system.root / "near-state"
    project = remote.system.root / "team"
    flags = ("--name", "team", "--kernel", remote.system.kernel_address, "--state-dir", str(state))
    started = remote.system.launch_host("near", project, *flags)
    yield started
    started.stop(again_after=1.0)


@pytest.fixture
def works(remote: Remote, far: Running) -> dict[str, Work]:
    """Start a step of each kind on the far instance."""
    jobs = ("ticks", "sync_ticks", "given_up_soon", "may_run_again")
    return {job: remote.system.work(job).under_way() for job in jobs}


def instances(system: FaultSystem) -> dict[int, InstanceView]:
    """Return the known instances by pid."""
    view = system.host_view("team")
    return {one.pid: one for one in view.instances} if view else {}


def state_of(system: FaultSystem, pid: int) -> str:
    """Return the state of an instance, empty if the kernel knows none of that pid."""
    one = instances(system).get(pid)
    return one.state if one is not None and one.generation else ""


def ends(system: FaultSystem, work: Work) -> int:
    """Return how often the end of a run was written, as far as the history goes now."""
    found = system.api.list_events(run_id=work.run_id, kinds=["run.finished"])
    return len(found.events)


def test_for_the_grace(remote: Remote, far: Running, works: dict[str, Work], near: Running) -> None:
    """Steps continue and end once, each line kept, and new work goes to the other instance; what was given up is not lost.

    The result of a step that was given up is kept as an event; one that may run again has run once more, elsewhere.
    """
    system = remote.system
    eventually(lambda: state_of(system, near.pid) == "ATTACHED")
    before = system.last_event()
    given_up, again = works["given_up_soon"], works["may_run_again"]
    remote.cable.cut()
    eventually(lambda: state_of(system, far.pid) == "UNREACHABLE")
    other = system.work("ticks").under_way()
    assert other.run().steps[0].last.incarnation == instances(system)[near.pid].incarnation
    lost = system.end(given_up.run_id)
    assert (lost.state, reason_of(lost), lost.steps[0].last.state) == ("FAILED", "host_lost", "LOST")
    first, second = again.ledger.wait_for("start", 2)
    given_up.until.touch()
    (end,) = given_up.ledger.wait_for("end")
    eventually(lambda: not is_alive(first["pid"]))  # its host knows that another may run
    remote.cable.heal()
    late = system.events(before, lambda event: event.kind == "attempt.late_result")[-1]
    assert (late.run_id, late.data["state"], late.data["rows_affected"]) == (given_up.run_id, "SUCCEEDED", end["count"])
    assert is_alive(second["pid"])
    run = again.let_go()
    assert (run.state, [one.state for one in run.steps[0].attempts]) == ("SUCCEEDED", ["LOST", "SUCCEEDED"])
    assert len(again.ledger.entries("start")) == 2
    assert (system.run(given_up.run_id).state, reason_of(system.run(given_up.run_id))) == ("FAILED", "host_lost")
    for work in (works["ticks"], works["sync_ticks"], other):
        work.succeeds_whole()
    assert [ends(system, work) for work in (*works.values(), other)] == [1, 1, 1, 1, 1]


def test_for_ever(remote: Remote, far: Running, works: dict[str, Work], near: Running) -> None:
    """Without a witness all is LOST after its grace, each run ends once, and the kernel forgets the instance."""
    system = remote.system
    eventually(lambda: state_of(system, near.pid) == "ATTACHED")
    remote.cable.cut()
    again = works["may_run_again"]
    again.ledger.wait_for("start", 2)
    far.kill()  # nobody hears of it
    assert again.let_go().state == "SUCCEEDED"
    assert len(again.ledger.entries("start")) == 2
    runs = {name: system.end(work.run_id) for name, work in works.items() if work is not again}
    assert {(run.state, reason_of(run), run.steps[0].last.state) for run in runs.values()} == {
        ("FAILED", "host_lost", "LOST")
    }
    eventually(lambda: far.pid not in instances(system))
    assert [ends(system, work) for work in works.values()] == [1, 1, 1, 1]
