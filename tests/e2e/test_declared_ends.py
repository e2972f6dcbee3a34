"""An instance whose end is declared, rightly and wrongly: killed, cut off, or in the best of health."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults_system import FaultSystem, Work
from tcp_proxy import TcpProxy

from nomaflow.client.values.runs import AttemptView
from processes import is_alive
from real_system import Running, eventually

pytestmark = pytest.mark.e2e

EVIDENCE = "Slurm job 12 is TIMEOUT, and its processes were in a cgroup"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A step that may be tried twice and runs in the first of two instances of a host.

    :param far: the first instance, which reaches the kernel by the proxy
    :param pid: the step's worker
    """

    system: FaultSystem
    proxy: TcpProxy
    far: Running
    work: Work
    pid: int

    def tries(self) -> list[AttemptView]:
        """Return the tries of the step."""
        return list(self.work.run().steps[0].attempts)

    def attached(self) -> set[str]:
        """Return the incarnations of the host's attached instances."""
        view = self.system.host_view("team")
        return {each.incarnation for each in view.instances if each.state == "ATTACHED"} if view else set()

    def declare(self) -> int:
        """Declare that the instance which has the first try has ended; return how many attempts ended with it."""
        return self.system.api.declare_ended("team", self.tries()[0].incarnation, evidence=EVIDENCE).attempts

    def runs_elsewhere(self) -> None:
        """Check that the first try has failed for the declaration, and wait until the second one runs."""
        first = self.tries()[0]
        assert (first.state, first.reason and first.reason.code) == ("FAILED", "host_ended")
        assert first.reason is not None
        assert EVIDENCE in first.reason.message
        eventually(lambda: len({entry["pid"] for entry in self.work.ledger.entries("start")}) == 2)
        eventually(lambda: [one.state for one in self.tries()] == ["FAILED", "RUNNING"])
        assert len({one.incarnation for one in self.tries()}) == 2

    def ends_once(self) -> None:
        """Let the step end, and check that the second try's end is the only one."""
        assert self.work.let_go().state == "SUCCEEDED"
        (end,) = self.work.ledger.entries("end")
        assert end["pid"] != self.pid

    def is_killed_and_serves_again(self) -> None:
        """Wait until the first try's code is dead in the instance that lives, and the kernel has that instance back."""
        eventually(lambda: not is_alive(self.pid))
        eventually(lambda: {one.incarnation for one in self.tries()} <= self.attached())
        assert self.far.process.poll() is None


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Start a step, and then the second instance."""
    system = FaultSystem(root=tmp_path, forks_templates=True)
    system.start_kernel()
    proxy = system.proxy()
    try:
        system.counting_project("team")
        far = system.start_host("team", "--kernel", proxy.address)
        work = system.work("tried_twice").under_way()
        near = system.launch_host(
            "near", tmp_path / "team", "--name", "team", "--kernel", system.kernel_address,
            "--state-dir", str(tmp_path / "near"),
        )  # fmt: skip
        eventually(lambda: system.instance("team", pid=near.pid))
        yield Pair(system=system, proxy=proxy, far=far, work=work, pid=work.ledger.pid())
    finally:
        proxy.heal()
        system.close()


def test_a_killed_instance_costs_the_grace_without_a_witness_and_nothing_with_one(pair: Pair) -> None:
    """Without it the try is RUNNING, since nobody knows; with it the next one runs at once."""
    pair.far.process.kill()
    eventually(lambda: not is_alive(pair.pid))
    eventually(lambda: pair.system.api.list_events(kinds=["host.detached"]).events)
    assert [one.state for one in pair.tries()] == ["RUNNING"]
    assert pair.declare() == 1
    pair.runs_elsewhere()
    pair.ends_once()
    assert pair.declare() == 0


def test_a_declared_instance_that_was_only_cut_off_kills_what_it_runs(pair: Pair) -> None:
    """It learns of that when it is back: its try dies without a result, and it serves like any other."""
    pair.proxy.blackhole()
    eventually(lambda: pair.system.api.list_events(kinds=["host.unreachable", "host.detached"]).events)
    assert pair.declare() == 1
    pair.runs_elsewhere()
    assert is_alive(pair.pid)
    pair.proxy.heal()
    pair.is_killed_and_serves_again()
    pair.ends_once()


def test_a_wrong_declaration_of_an_attached_instance_stops_what_it_runs(pair: Pair) -> None:
    """Its session ends with the cause in words; it attaches again and is told to kill."""
    assert pair.declare() == 1
    pair.runs_elsewhere()
    assert EVIDENCE in pair.system.kernel.log
    eventually(lambda: EVIDENCE in pair.far.log)
    eventually(lambda: pair.system.instance("team", pid=pair.far.pid))
    pair.is_killed_and_serves_again()
    pair.ends_once()
