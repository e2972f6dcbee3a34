"""A real Slurm that pre-empts, loses, repeats and kills jobs, is away or talks nonsense, and launchers that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from launched_system import BOXED, LaunchedSystem
from slurm_cluster import SlurmCluster, slurm_cluster
from team_system import reason_of

from processes import pids_below, still_alive
from real_system import eventually

pytestmark = pytest.mark.e2e

MORE_JOBS = (
    BOXED
    + """
[[jobs]]
id = "given_up_soon"
lost_after_seconds = 1
steps = [{ callable = "stopping.sync_steps:beats" }]

[[jobs]]
id = "boxed_until_told"
isolation = "instance"
steps = [{ name = "box", callable = "stopping.async_steps:returns_when_told" }]
"""
)
DIES = """#!/bin/sh
# What stands before the command's name in the file `fault` kills the launcher: before the command, or after it.
fault=$(cat "$(dirname "$0")/fault")
[ "$fault" != "before ${0##*/}" ] || { : >"$(dirname "$0")/fault"; kill -KILL $PPID; exit; }
{real} "$@"; code=$?
[ "$fault" != "after ${0##*/}" ] || { : >"$(dirname "$0")/fault"; kill -KILL $PPID; }
exit $code
"""
SAYS = """#!/bin/sh
said=$(dirname "$0")/${0##*/}.says
[ ! -e "$said" ] || { cat "$said"; rm "$said"; exit; }
exec {real} "$@"
"""
HANGS = """#!/bin/sh
# In the place of the Python that runs a host: the first one hangs, and notices no signal; the others are well.
mkdir "$0.hung" 2>/dev/null && kill -STOP $$
exec {real} "$@"
"""
COUNTED = """#!/bin/sh
echo >>"$(dirname "$0")/count"
exec {real} "$@"
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    """A cluster for all tests of this file."""
    with slurm_cluster() as made:
        yield made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cluster: SlurmCluster) -> Iterator[LaunchedSystem]:
    """A kernel that knows the jobs of a host that has no instance."""
    made = LaunchedSystem(root=tmp_path_factory.mktemp("troubles"))
    made.begin(MORE_JOBS)
    yield made
    made.close()


@pytest.fixture
def system(whole: LaunchedSystem, cluster: SlurmCluster) -> Iterator[LaunchedSystem]:
    """The kernel, without launchers and instances."""
    yield whole
    for name in [*whole.parts]:
        if name != "kernel":
            whole.parts.pop(name).stop()
    cluster.empty()


def test_a_job_that_is_pre_empted_ends_its_step_with_its_true_cause(
    system: LaunchedSystem, cluster: SlurmCluster
) -> None:
    """Another one needs its machine; the host drains, and leaves nothing behind."""
    ledger = system.ledger()
    run_id = system.start("daemonises_and_is_deaf", ledger)
    system.launcher(cluster.environ)
    ledger.wait_for("start")
    (job,) = cluster.queue()
    cluster.run("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 600")
    ended = system.end(run_id)
    assert (ended.state, reason_of(ended)) == ("FAILED", "host_draining")
    assert still_alive([entry.get("child", entry["pid"]) for entry in ledger.entries()], seconds=30) == []
    eventually(lambda: "JobState=PREEMPTED" in cluster.run("scontrol", "show", "job", job))


def test_a_job_that_is_killed_whole_costs_the_grace(system: LaunchedSystem, cluster: SlurmCluster) -> None:
    """Host, reaper and worker get SIGKILL at once: Slurm is no witness here, and the step is LOST, in words."""
    ledger = system.ledger()
    run_id = system.start("given_up_soon", ledger)
    system.launcher(cluster.environ)
    pid = ledger.pid()
    host = system.instance("team")
    assert host is not None
    together = [host.pid, *pids_below(host.pid)]
    for each in together:  # stopped first, so that none sees another one end
        with contextlib.suppress(ProcessLookupError):  # what forks a worker ends at once
            os.kill(each, signal.SIGSTOP)
    for each in reversed(together):  # Slurm kills what is left of a job whose host has ended
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    assert still_alive([pid], seconds=30) == []
    ended = system.end(run_id)
    assert (ended.state, ended.steps[0].last.state, reason_of(ended)) == ("FAILED", "LOST", "host_lost")
    assert len(ledger.entries("start")) == 1


def test_a_machine_that_slurm_has_lost_may_live(system: LaunchedSystem, cluster: SlurmCluster) -> None:
    """The job is NODE_FAIL, and the launcher does not list it; its step goes on, succeeds, and is started once."""
    ledger, told = system.ledger(), system.root / "told"
    run_id = system.start("until_told", ledger, until=str(told))
    system.launcher(cluster.environ)
    ledger.wait_for("start")
    (job,) = cluster.queue()
    cluster.kill_daemon("slurmd")
    try:
        cluster.run("scontrol", "update", f"nodename={cluster.node}", "state=down", "reason=lost")
        eventually(lambda: "JobState=NODE_FAIL" in cluster.run("scontrol", "show", "job", job))
        told.touch()
        assert system.end(run_id).state == "SUCCEEDED"
        assert len(ledger.entries("start")) == 1
    finally:
        cluster.start_daemon("slurmd")
        cluster.run("scontrol", "update", f"nodename={cluster.node}", "state=resume")


def test_a_job_that_slurm_starts_again_runs_nothing_twice(system: LaunchedSystem, cluster: SlurmCluster) -> None:
    """Slurm refuses that for the launcher's jobs. An operator can insist: the second start finds its attempt over."""
    ledger = system.ledger()
    run_id = system.start("boxed_until_told", ledger, until="/nowhere")
    launcher = system.launcher(cluster.environ)
    ledger.wait_for("start")
    launcher.kill()  # it would take the job out of the queue again
    (job,) = cluster.queue()
    cluster.run("scontrol", "requeue", job)
    assert "Restarts=0" in cluster.run("scontrol", "show", "job", job)
    assert system.run(run_id).state == "RUNNING"
    cluster.run("scontrol", "update", f"jobid={job}", "requeue=1")
    cluster.run("scontrol", "requeue", job)
    ended = system.end(run_id)
    assert (ended.state, reason_of(ended)) == ("FAILED", "host_draining")
    eventually(lambda: "JobState=PENDING" in cluster.run("scontrol", "show", "job", job))
    # Within the second of a kill, Slurm's daemon takes the next start for the one that was killed.
    cluster.run("scontrol", "update", f"jobid={job}", "starttime=now+3")
    eventually(lambda: "JobState=COMPLETED" in cluster.run("scontrol", "show", "job", job))
    assert "Restarts=1" in cluster.run("scontrol", "show", "job", job)
    assert len(ledger.entries("start")) == 1


def test_a_controller_that_is_away_stops_nothing(system: LaunchedSystem, cluster: SlurmCluster) -> None:
    """Steps go on and the cause is told; when it is back, what waits meanwhile gets its instance."""
    ledger, told = system.ledger(), system.root / "told_later"
    first = system.start("until_told", ledger, until=str(told))
    launcher = system.launcher(cluster.environ)
    ledger.wait_for("start")
    cluster.stop_controller()
    try:
        second = system.start("boxed", system.ledger())
        eventually(lambda: "nothing is started: squeue failed: " in launcher.log)
        told.touch()
        assert system.end(first).state == "SUCCEEDED"
        assert system.run(second).state == "QUEUED"
    finally:
        cluster.start_daemon("slurmctld")
    assert system.end(second).state == "SUCCEEDED"


def test_a_kernel_that_starts_again_costs_no_instance(system: LaunchedSystem, cluster: SlurmCluster) -> None:
    """The new one does not know the instance, which is frozen, and has run for longer than it may take to attach."""
    ledger, told = system.ledger(), system.root / "told_after_a_restart"
    run_id = system.start("until_told", ledger, until=str(told))
    first = system.launcher(cluster.environ)
    ledger.wait_for("start")
    first.kill()
    looks = system.root / "looks" / "count"
    second = system.launcher(cluster.spoil(looks.parent, squeue=COUNTED), name="second", start_seconds=1)

    def looks_again() -> None:
        """Wait until the launcher has done some turns whole."""
        before = looks.stat().st_size
        eventually(lambda: looks.stat().st_size > before + 5)

    eventually(looks.exists)
    looks_again()  # it has seen the instance serve
    instance = system.instance("team")
    assert instance is not None
    os.kill(instance.pid, signal.SIGSTOP)
    try:
        system.parts["kernel"].kill()
        system.start_kernel()
        looks_again()
    finally:
        os.kill(instance.pid, signal.SIGCONT)
    told.touch()
    assert system.end(run_id).state == "SUCCEEDED"
    assert "without attaching" not in second.log


def test_an_instance_that_hangs_before_it_serves_makes_room(system: LaunchedSystem, cluster: SlurmCluster) -> None:
    """Its process lives and answers no signal, so asking it to end would leave it in its place until its walltime."""
    hangs = system.root / "hangs"
    hangs.write_text(HANGS.format(real=sys.executable))
    hangs.chmod(0o755)
    run_id = system.start("boxed", system.ledger())
    launcher = system.launcher(cluster.environ, python=str(hangs), max_instances=1, start_seconds=5)
    assert system.end(run_id).state == "SUCCEEDED"
    assert launcher.log.count("has run for 5 s without attaching: ending it") == 1


def test_nonsense_is_told_and_starts_nothing_twice(system: LaunchedSystem, cluster: SlurmCluster) -> None:
    """Output of squeue or sbatch that cannot be read is quoted in the log, and no instance is started twice."""
    environ = cluster.spoil(system.root / "says", squeue=SAYS, sbatch=SAYS)
    (system.root / "says" / "squeue.says").write_text("<html>the cluster is moving house</html>\n")
    (system.root / "says" / "sbatch.says").write_text("try again tomorrow\n")
    before = cluster.submitted()
    run_id = system.start("boxed", system.ledger())
    launcher = system.launcher(environ)
    assert system.end(run_id).state == "SUCCEEDED"
    assert (
        "squeue has answered with something else than jobs: '<html>the cluster is moving house</html>'" in launcher.log
    )
    assert "sbatch has answered with something else than a job's id: 'try again tomorrow'" in launcher.log
    assert cluster.submitted() - before == 1


def test_a_launcher_that_is_killed_around_each_act_does_nothing_twice(
    system: LaunchedSystem, cluster: SlurmCluster
) -> None:
    """One dies before or after sbatch or scancel, the next one comes: each finds what was done before it."""
    environ = cluster.spoil(system.root / "dies", sbatch=DIES, scancel=DIES)
    before = cluster.submitted()

    def killed(when: str) -> None:
        (system.root / "dies" / "fault").write_text(when)
        assert system.launcher(environ, name=when).process.wait(30) == -signal.SIGKILL

    cluster.run("scontrol", "update", f"nodename={cluster.node}", "state=drain", "reason=test")
    try:
        run_id = system.start("boxed", system.ledger())
        killed("before sbatch")
        assert cluster.queue() == []
        killed("after sbatch")
        system.api.cancel(run_id)
        killed("before scancel")
        assert len(cluster.queue()) == 1
        killed("after scancel")
        eventually(lambda: cluster.queue() == [])
        assert cluster.submitted() - before == 1
    finally:
        cluster.run("scontrol", "update", f"nodename={cluster.node}", "state=resume")
