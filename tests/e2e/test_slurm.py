"""A launcher on a real Slurm: instances come when steps wait for them, and go; what ends there says why."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from launched_system import BOXED, LaunchedSystem
from slurm_cluster import SlurmCluster, slurm_cluster
from team_system import reason_of

from processes import still_alive
from real_system import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    """A cluster for all tests of this file."""
    with slurm_cluster() as made:
        yield made


@pytest.fixture
def system(tmp_path: Path, cluster: SlurmCluster) -> Iterator[LaunchedSystem]:
    """A kernel that knows the jobs of a host that has no instance."""
    made = LaunchedSystem(root=tmp_path)
    made.begin(BOXED)
    yield made
    made.close()
    cluster.empty()


def test_instances_come_with_the_work_and_go_with_it(system: LaunchedSystem, cluster: SlurmCluster) -> None:
    """Twenty runs and no instance: two are started, all runs succeed, the instances leave and are not missed.

    The launcher is killed right after its first start; the next one finds that in the queue and starts one more only.
    """
    before = cluster.submitted()
    ledger = system.ledger()
    runs = [system.start("brief", ledger, seconds=0.2) for _ in range(20)]
    first = system.launcher(cluster.environ)
    eventually(lambda: cluster.submitted() > before)
    first.process.kill()
    first.process.wait()
    second = system.launcher(cluster.environ, name="second")
    assert {system.end(run).state for run in runs} == {"SUCCEEDED"}
    assert len({run.steps[0].attempts[0].incarnation for run in map(system.run, runs)}) <= 2
    eventually(lambda: cluster.queue() == [])
    assert cluster.submitted() - before <= 2
    assert list((system.root / "scratch").iterdir()) == []
    view = system.host_view("team")
    assert view is not None
    assert [one for one in view.instances if one.state == "ATTACHED"] == []
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(30) == 0


def test_each_attempt_that_wants_an_instance_of_its_own_gets_one(system: LaunchedSystem, cluster: SlurmCluster) -> None:
    """Three runs, three jobs of Slurm, though the launcher is killed after its first; each ends with its run.

    A fourth run is canceled before it has a machine, since two instances are the most: its instance never is.
    """
    before = cluster.submitted()
    ledger = system.ledger()
    runs = [system.start("boxed", ledger, seconds=2) for _ in range(3)]
    first = system.launcher(cluster.environ)
    eventually(lambda: cluster.submitted() > before)
    first.process.kill()
    first.process.wait()
    system.launcher(cluster.environ, name="second")
    canceled = system.start("boxed", ledger, seconds=2)
    system.api.cancel(canceled)
    ended = [system.end(run) for run in runs]
    assert {run.state for run in ended} == {"SUCCEEDED"}
    assert len({run.steps[0].attempts[0].incarnation for run in ended}) == 3
    eventually(lambda: cluster.queue() == [])
    assert cluster.submitted() - before == 3
    assert list((system.root / "scratch").iterdir()) == []
    assert system.log("second").count("is started for attempt run_") >= 1
    assert "was not seen to serve" not in system.log("second")


def _stops(system: LaunchedSystem, cluster: SlurmCluster, job: str) -> tuple[str, str, list[int]]:
    """Start a step in an instance on Slurm, and return the id of its run, of Slurm's job, and its processes."""
    ledger = system.ledger()
    run_id = system.start(job, ledger)
    system.launcher(cluster.environ)
    ledger.wait_for("start")
    (engine_id,) = cluster.queue()
    return run_id, engine_id, [entry.get("child", entry["pid"]) for entry in ledger.entries()]


@pytest.mark.parametrize("how", [(), ("--batch", "--signal=TERM")], ids=["everything", "the batch shell"])
def test_scancel_ends_a_step_with_its_true_cause(
    system: LaunchedSystem, cluster: SlurmCluster, how: tuple[str, ...]
) -> None:
    """The cause is that the host was stopped, also where Slurm ends the worker at the same moment."""
    run_id, engine_id, pids = _stops(system, cluster, "daemonises_and_is_deaf")
    cluster.run("scancel", *how, engine_id)
    ended = system.end(run_id)
    assert (ended.state, reason_of(ended)) == ("FAILED", "host_draining")
    assert still_alive(pids, seconds=30) == []
    eventually(lambda: engine_id not in cluster.queue())


def test_an_instance_that_is_not_wanted_any_more_is_taken_out_of_the_queue(
    system: LaunchedSystem, cluster: SlurmCluster
) -> None:
    """Its run was canceled before Slurm had a machine for it. A person's habits, in variables, are not the launcher's."""
    cluster.run("scontrol", "update", f"nodename={cluster.node}", "state=drain", "reason=test")
    try:
        run_id = system.start("brief", system.ledger())
        system.launcher({**cluster.environ, "SCANCEL_NAME": "mine"})
        eventually(lambda: cluster.queue() != [])
        system.api.cancel(run_id)
        eventually(lambda: cluster.queue() == [])
        assert "no longer wanted, and has no machine yet" in system.log("launcher")
    finally:
        cluster.run("scontrol", "update", f"nodename={cluster.node}", "state=resume")


def test_instances_that_never_serve_do_not_fill_the_queue(system: LaunchedSystem, cluster: SlurmCluster) -> None:
    """The next one is started later and later, and the log of each is named; what waits is still wanted.

    Of the first ones nothing is told where a look took so long that they may have served meanwhile.
    """
    run_id = system.start("brief", system.ledger())
    launcher = system.launcher(cluster.environ, python="/bin/false")
    eventually(lambda: "the next one is started in 4 s" in launcher.log)
    lines = launcher.log.splitlines()
    place = next(number for number, line in enumerate(lines) if line.endswith("; the next one is started in 2 s"))
    told, started = lines[place : place + 2]
    assert re.search(r"instance (\d+) .* has ended, and was not seen to serve: see /.*/launcher/\1\.log;", told)
    assert started.endswith(") is started")
    assert datetime.fromisoformat(started[:23]) - datetime.fromisoformat(told[:23]) >= timedelta(seconds=2)
    assert system.run(run_id).state == "QUEUED"


def test_a_launcher_without_its_engine_or_its_twin_says_so(system: LaunchedSystem, cluster: SlurmCluster) -> None:
    """It keeps trying, tells it once, and starts nothing; a second launcher of the project ends at once."""
    cluster.environ["PATH"], path = "/nowhere", cluster.environ["PATH"]
    try:
        first = system.launcher(cluster.environ)
        eventually(lambda: "squeue cannot be run" in first.log)
        second = system.launcher(cluster.environ, name="second")
        assert second.process.wait(30) == 75
        assert "another launcher of" in second.log
        assert first.log.count("squeue cannot be run") == 1
    finally:
        cluster.environ["PATH"] = path
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(30) == 0
