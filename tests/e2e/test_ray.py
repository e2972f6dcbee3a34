"""A launcher on a real Ray: instances come when steps wait for them, and go; what ends there says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launched_system import BOXED, LaunchedSystem
from ray_cluster import RayCluster, ray_cluster
from team_system import reason_of

from processes import still_alive
from real_system import Running, eventually

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """A cluster for all tests of this file."""
    with ray_cluster() as made:
        yield made


@pytest.fixture
def system(tmp_path: Path, cluster: RayCluster) -> Iterator[LaunchedSystem]:
    """A kernel, with doors on TCP too, that knows the jobs of a host that has no instance."""
    made = LaunchedSystem(root=tmp_path, on_tcp=True)
    made.begin(BOXED)
    yield made
    made.close()
    cluster.empty()


def _launcher(system: LaunchedSystem, cluster: RayCluster, *, address: str = "", **more: Any) -> Running:
    return system.launcher(cluster.environ, engine="ray", ray_address=address or cluster.address, **more)


def _logs(system: LaunchedSystem) -> list[Path]:
    """Return the logs of the instances: each has one, for as long as the project lives."""
    return list((system.root / "team" / ".nomaflow" / "launcher").glob("*.log"))


def test_instances_come_with_the_work_and_go_with_it(system: LaunchedSystem, cluster: RayCluster) -> None:
    """Twenty runs and no instance: two are started, all runs succeed, the instances leave and are not missed.

    The launcher is killed right after its first start; the next one finds that in the cluster and starts one more only.
    """
    ledger = system.ledger()
    runs = [system.start("brief", ledger, seconds=0.2) for _ in range(20)]
    first = _launcher(system, cluster)
    eventually(cluster.actors)
    first.process.kill()
    first.process.wait()
    second = _launcher(system, cluster, name="second")
    assert {system.end(run).state for run in runs} == {"SUCCEEDED"}
    assert len({run.steps[0].attempts[0].incarnation for run in map(system.run, runs)}) <= 2
    eventually(lambda: cluster.actors() == [])
    assert len(_logs(system)) <= 2
    assert list((system.root / "scratch").iterdir()) == []
    view = system.host_view("team")
    assert view is not None
    assert [one for one in view.instances if one.state == "ATTACHED"] == []
    assert second.stop() == 0
    assert "Ray writes" not in second.log


def _stops(system: LaunchedSystem, cluster: RayCluster) -> tuple[str, str, list[int]]:
    """Start a deaf step in an instance on Ray, and return the id of its run, the name of its actor, its processes."""
    ledger = system.ledger()
    run_id = system.start("daemonises_and_is_deaf", ledger)
    _launcher(system, cluster)
    ledger.wait_for("start")
    (actor,) = cluster.actors()
    return run_id, actor, [entry.get("child", entry["pid"]) for entry in ledger.entries()]


def test_the_kill_of_an_actor_drains_its_host(system: LaunchedSystem, cluster: RayCluster) -> None:
    """Ray kills the actor with SIGKILL; its host drains, says so, and leaves nothing behind."""
    run_id, actor, pids = _stops(system, cluster)
    view = system.host_view("team")
    assert view is not None
    pids += [one.pid for one in view.instances if one.state == "ATTACHED"]
    cluster.actors(kill=actor)
    ended = system.end(run_id)
    assert (ended.state, reason_of(ended)) == ("FAILED", "host_draining")
    assert still_alive(pids, seconds=30) == []


def test_an_instance_that_ray_has_no_place_for_waits_and_is_taken_back(
    system: LaunchedSystem, cluster: RayCluster
) -> None:
    """Its actor asks for a resource that no machine has; once its run is canceled, the launcher ends it."""
    run_id = system.start("brief", system.ledger())
    _launcher(system, cluster, more='[[launcher.shapes]]\nname = "odd"\noptions = ["special=1"]\n')
    (actor,) = eventually(cluster.actors)
    assert actor.split("/")[2:4] == ["team", "odd"]
    system.api.cancel(run_id)
    eventually(lambda: cluster.actors() == [])
    assert "no longer wanted, and has no machine yet" in system.log("launcher")
    system.start("brief", system.ledger())
    eventually(cluster.actors)
    assert "could not start its instance" not in system.log("launcher")
    assert _logs(system) == []


def test_an_actor_that_cannot_start_its_host_says_why(system: LaunchedSystem, cluster: RayCluster) -> None:
    """The folder for its state is not there. The actor is dead, and its name gone, before the launcher looks again."""
    (system.root / "scratch").rmdir()
    system.start("brief", system.ledger())
    launcher = _launcher(system, cluster, poll_seconds=4)
    eventually(lambda: "an actor could not start its instance: " in launcher.log)
    assert "No such file or directory: " in launcher.log
    eventually(lambda: "was not seen to serve" in launcher.log)


def test_an_attempt_gets_an_instance_of_its_own_from_outside_of_the_cluster(
    system: LaunchedSystem, cluster: RayCluster
) -> None:
    """Two runs, two actors by way of Ray's client server; each joins the kernel as itself and ends with its run."""
    ledger = system.ledger()
    runs = [system.start("boxed", ledger, seconds=1) for _ in range(2)]
    launcher = _launcher(system, cluster, address=cluster.client_address)
    ended = [system.end(run) for run in runs]
    assert {run.state for run in ended} == {"SUCCEEDED"}, launcher.log
    assert len({run.steps[0].attempts[0].incarnation for run in ended}) == 2
    eventually(lambda: cluster.actors() == [])
    assert list((system.root / "scratch").iterdir()) == []
    assert list((system.root / "team" / ".nomaflow" / "launcher" / "join").iterdir()) == []
    names = {row.principal for row in system.api.read_audit(action="Attach")}
    assert len([name for name in names if name.startswith("host:team/tok_")]) == 2
    assert "was not seen to serve" not in launcher.log


def test_a_cluster_that_dies_takes_its_instances_with_it(system: LaunchedSystem, cluster: RayCluster) -> None:
    """Their hosts drain and say so. A launcher tells once that Ray is gone, and waits. No test follows this one."""
    run_id, _, pids = _stops(system, cluster)
    cluster.stop()
    ended = system.end(run_id)
    assert (ended.state, reason_of(ended)) == ("FAILED", "host_draining")
    assert still_alive(pids, seconds=30) == []
    launcher = system.parts["launcher"]
    eventually(lambda: "nothing is started: " in launcher.log, seconds=60)
    assert launcher.stop() == 0
    later = _launcher(system, cluster, name="later")
    eventually(lambda: f"nothing is started: Ray: nobody answers at {cluster.address}: Connection refused" in later.log)
    assert later.stop() == 0
    assert "Ray writes" not in launcher.log + later.log
