"""A host on another machine: it joins, and a cable is cut in the middle of a step and put back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from remote_stage import Remote, laid, served
from two_networks import Loopback, Namespaces

from processes import is_alive
from real_system import eventually

pytestmark = pytest.mark.e2e

LISTENING = """
import sys, psutil
for one in psutil.Process(int(sys.argv[1])).net_connections("tcp"):
    if one.status == psutil.CONN_LISTEN:
        print(one.laddr.ip.removeprefix("::ffff:"), one.laddr.port, sep=":")
"""


@pytest.fixture(scope="module", params=[Loopback, Namespaces], ids=lambda kind: kind.__name__.lower())
def remote(request: pytest.FixtureRequest) -> Iterator[Remote]:
    """Lay a cable and start a kernel at its one end."""
    with laid(request.param()) as remote:
        yield remote


@pytest.fixture(autouse=True)
def healed(remote: Remote) -> Iterator[None]:
    """Have the next test find the cable whole, whatever became of this one."""
    yield
    remote.cable.heal()


def test_the_cable_is_cut_in_the_middle_of_a_step(remote: Remote) -> None:
    """UNREACHABLE within the lease while the step runs on; then the same worker's result and each of its lines, once."""
    system = remote.system
    system.counting_project("team")
    host = system.start_host("team", *remote.joining("team"), dials=False, side=remote.cable.host_side)
    works = [system.work("ticks").under_way(), system.work("sync_ticks").under_way()]
    pids = [work.ledger.pid() for work in works]
    remote.cable.cut()
    system.until_state("team", "UNREACHABLE")
    eventually(lambda: "no session with the kernel" in host.log or "no answer to a heartbeat" in host.log)
    for work in works:
        work.goes_on()
        assert [step.attempts[-1].state for step in work.run().steps] == ["RUNNING"]
    remote.cable.heal()
    system.until_state("team", "ATTACHED")
    for work, pid in zip(works, pids, strict=True):
        work.goes_on()
        assert is_alive(pid)
        work.succeeds_whole()
        assert {entry["pid"] for entry in work.ledger.entries()} == {pid}
    assert host.process.poll() is None
    host.stop()


@pytest.mark.parametrize("remote", [Loopback], indirect=True, ids=["loopback"])
def test_a_host_goes_by_the_settings_of_its_project(remote: Remote) -> None:
    """It joins once; then `[host]` may name doors, of which the first is not there; without, it dials the joined one."""
    system = remote.system
    system.counting_project("settled", prefix="settled_")
    nobody = remote.dialed.rpartition(":")[0] + ":9"
    settings = (f'kernel = "{nobody},{remote.dialed}"',)
    side = remote.cable.host_side
    flags = ("--join", str(system.join_file("settled")))
    host = system.start_host("settled", *flags, settings=settings, side=side, dials=False)
    assert "nothing answers there" in host.log
    assert host.stop() == 0
    host = system.start_host("settled", side=side, dials=False)
    assert f"attached to the kernel at {served(system)['hosts']}" in host.log
    host.stop()


def test_nothing_else_is_open(remote: Remote) -> None:
    """The kernel listens on its socket and on the ports of its three doors, and no other address of TCP."""
    assert remote.system.kernel is not None
    # Asked on the kernel's side: the system shows a process the ports of its own network.
    command = [*remote.cable.kernel_side, sys.executable, "-c", LISTENING, str(remote.system.kernel.pid)]
    asked = subprocess.run(command, check=True, capture_output=True, text=True)
    assert sorted(asked.stdout.split()) == sorted(
        each.removeprefix("tls://") for each in served(remote.system).values()
    )
