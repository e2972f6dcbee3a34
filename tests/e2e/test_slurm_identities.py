"""Instances on a real Slurm whose kernel serves TLS: each joins as itself, and its end counts where it is witnessed."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from launched_system import LaunchedSystem
from slurm_cluster import SlurmCluster, slurm_cluster
from team_system import reason_of

from nomaflow.client.values import InstanceView
from processes import still_alive
from real_system import Running, eventually, launch

pytestmark = pytest.mark.e2e

SCONTROL = """#!/bin/sh
{{real}} "$@" | sed 's/proctrack.linuxproc/{proctrack}/'
"""
NOT_ACCEPTED = 78


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    """A cluster for all tests of this file."""
    with slurm_cluster() as made:
        yield made


@pytest.fixture
def system(tmp_path: Path, cluster: SlurmCluster) -> Iterator[LaunchedSystem]:
    """A kernel with doors on TCP that knows the jobs of a host, and a launcher with a token for that host."""
    made = LaunchedSystem(root=tmp_path, on_tcp=True)
    made.begin()
    yield made
    made.close()
    cluster.empty()


def _launcher(system: LaunchedSystem, cluster: SlurmCluster, *, proctrack: str = "") -> Running:
    """Start the launcher, which takes Slurm for one that tracks processes in that way."""
    told = SCONTROL.format(proctrack=proctrack.replace("/", "\\/"))
    environ = cluster.spoil(system.root / "bin", scontrol=told) if proctrack else cluster.environ
    return system.launcher(environ, idle_exit_seconds=60)


def _attached(system: LaunchedSystem) -> Sequence[InstanceView]:
    view = system.host_view("team")
    return [one for one in view.instances if one.state == "ATTACHED" and one.generation] if view else []


def test_each_instance_joins_as_itself_and_can_be_shut_out_alone(system: LaunchedSystem, cluster: SlurmCluster) -> None:
    """The join string is in one file of the job's user, is used once, and is in no argument, variable or script."""
    runs = [system.start("brief", system.ledger(), seconds=1) for _ in range(5)]
    _launcher(system, cluster)
    eventually(lambda: len(_attached(system)) == 2)
    assert {system.end(run).state for run in runs} == {"SUCCEEDED"}
    rows = system.api.read_audit(action="Attach")
    names = {row.principal for row in rows if row.principal.startswith("host:team/tok_")}
    assert len(names) == 2
    assert {one.principal for one in _attached(system)} == names
    invited = list(system.api.read_audit(action="InviteInstance"))
    assert {(row.principal, row.target, row.outcome) for row in invited} == {("starter", "host:team", "ok")}
    assert list((system.root / "team" / ".nomaflow" / "launcher" / "join").iterdir()) == []
    strings = list((system.root / "scratch").glob("nomaflow-*/join"))
    assert [stat.S_IMODE(each.stat().st_mode) for each in strings] == [0o600, 0o600]
    for one in _attached(system):
        process = psutil.Process(one.pid)
        assert "nfj1." not in " ".join([*process.cmdline(), *process.environ().values()])
    assert "nfj1." not in "".join(cluster.run("scontrol", "write", "batch_script", job, "-") for job in cluster.queue())
    again = ("--name", "team", "--join", str(strings[0]), "--state-dir", str(system.root / "thief"))
    thief = launch("nomaflow_host", system.root / "team", *again, log_file=system.root / "thief.log")
    assert thief.process.wait(30) == NOT_ACCEPTED
    assert "does not take this join string" in thief.log
    system.api.revoke(min(names))
    eventually(lambda: len(_attached(system)) == 1)
    assert system.end(system.start("brief", system.ledger(), seconds=0.1)).state == "SUCCEEDED"


@pytest.mark.parametrize("proctrack", ["", "proctrack/cgroup"], ids=["processes may be left", "in a cgroup"])
def test_a_killed_job_ends_its_step_at_once_where_slurm_is_a_witness(
    system: LaunchedSystem, cluster: SlurmCluster, proctrack: str
) -> None:
    """A killed job FAILS its step at once if Slurm can tell that no process is left; else the step stays RUNNING."""
    ledger = system.ledger()
    run_id = system.start("daemonises_and_is_deaf", ledger)
    launcher = _launcher(system, cluster, proctrack=proctrack)
    ledger.wait_for("start")
    (job,) = cluster.queue()
    (instance,) = _attached(system)
    psutil.Process(instance.pid).kill()
    pids = [entry.get("child", entry["pid"]) for entry in ledger.entries()]
    assert still_alive(pids, seconds=30) == []
    eventually(lambda: job not in cluster.queue())
    if not proctrack:
        eventually(lambda: (view := system.host_view("team")) is not None and view.state == "UNREACHABLE")
        assert system.run(run_id).state == "RUNNING"
        assert "has ended with" not in launcher.log
        return
    ended = system.end(run_id)
    assert (ended.state, reason_of(ended)) == ("FAILED", "host_ended")
    assert ended.reason is not None
    assert f"as starter (for launcher) has declared: Slurm job {job} is FAILED" in ended.reason.message
    eventually(lambda: "has ended with 1 attempt: Slurm job" in launcher.log)
