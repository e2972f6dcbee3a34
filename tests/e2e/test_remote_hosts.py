"""A host on another machine: TLS, a token, a cable that is cut in the middle of a step and put back."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults_system import FaultSystem
from two_networks import Cable, Loopback, Namespaces

from certificate_authority import Authority
from processes import is_alive
from real_system import CLOCKS, eventually

pytestmark = pytest.mark.e2e

LISTENING = """
import sys, psutil
for one in psutil.Process(int(sys.argv[1])).net_connections("tcp"):
    if one.status == psutil.CONN_LISTEN:
        print(one.laddr.ip.removeprefix("::ffff:"), one.laddr.port, sep=":")
"""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A kernel that listens with TLS at one end of a cable, and the settings of a host at the other end.

    :param dialed: where the host finds the kernel
    :param token: file with the token of hosts, brought to the other machine
    """

    system: FaultSystem
    cable: Cable
    authority: Authority
    dialed: str
    token: Path

    @property
    def flags(self) -> tuple[str, ...]:
        """The host's options."""
        return ("--kernel", self.dialed, "--token-file", str(self.token), "--ca", str(self.authority.file))


@pytest.fixture(scope="module", params=[Loopback, Namespaces], ids=lambda kind: kind.__name__.lower())
def remote(request: pytest.FixtureRequest) -> Iterator[Remote]:
    """Lay a cable and start a kernel at its one end."""
    root = Path(tempfile.mkdtemp(prefix="nf-"))
    cable: Cable = request.param()
    with cable:
        authority = Authority(root)
        pair = authority.issue("kernel", *cable.names)
        flags = (*CLOCKS, "--address", f"unix:,{cable.listen}", *pair.flags)
        system = FaultSystem(root=root, kernel_flags=flags, kernel_side=cable.kernel_side)
        try:
            system.start_kernel()
            system.client()
            token = root / "token-of-hosts"
            token.touch(mode=0o600)
            token.write_text((system.kernel_project / ".nomaflow" / "host-token").read_text())
            dialed = cable.dial(lambda: served(system))
            yield Remote(system=system, cable=cable, authority=authority, dialed=dialed, token=token)
        finally:
            system.close()
    shutil.rmtree(root)


@pytest.fixture(autouse=True)
def healed(remote: Remote) -> Iterator[None]:
    """Have the next test find the cable whole, whatever became of this one."""
    yield
    remote.cable.heal()


def served(system: FaultSystem) -> str:
    """Return the address with TLS at which the kernel says that it listens."""
    eventually(lambda: "serving on" in system.log("kernel"))
    line = next(one for one in system.log("kernel").splitlines() if "serving on" in one)
    return next(word.strip(",") for word in line.split() if word.startswith("tls://"))


def test_the_cable_is_cut_in_the_middle_of_a_step(remote: Remote) -> None:
    """UNREACHABLE within the lease while the step runs on; then the same worker's result and each of its lines, once."""
    system = remote.system
    system.counting_project("team")
    host = system.start_host("team", *remote.flags, side=remote.cable.host_side)
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


def test_a_host_says_whom_it_does_not_trust_and_goes_on_trying(remote: Remote) -> None:
    """A stranger's authority keeps it out, with the cause in its log; it attaches once the file holds the right one."""
    system = remote.system
    system.counting_project("wary", prefix="wary_")
    trusted = system.root / "trusted.pem"
    (system.root / "stranger").mkdir(exist_ok=True)
    trusted.write_bytes(Authority(system.root / "stranger", "stranger").file.read_bytes())
    flags = (*remote.flags[:-1], str(trusted))
    host = system.start_host("wary", *flags, side=remote.cable.host_side, serves=False)
    eventually(lambda: "nobody trusted has signed the certificate" in host.log)
    trusted.write_text("no certificate")
    eventually(lambda: "holds no certificate" in host.log)
    trusted.write_bytes(remote.authority.file.read_bytes())
    eventually(lambda: system.instance("wary", pid=host.pid))
    host.stop()


def test_a_host_goes_by_the_settings_of_its_project(remote: Remote) -> None:
    """`[host]` names kernels, of which the first is not there, the token and the authority, relative to the project."""
    system = remote.system
    system.counting_project("settled", prefix="settled_")
    shutil.copy(remote.token, system.root / "settled" / "token")
    shutil.copy(remote.authority.file, system.root / "settled" / "ca.pem")
    nobody = remote.dialed.rpartition(":")[0] + ":9"
    settings = (f'kernel = "{nobody},{remote.dialed}"', 'token_file = "token"', 'kernel_ca = "ca.pem"')
    host = system.start_host("settled", settings=settings, side=remote.cable.host_side, dials=False)
    assert "nothing answers there" in host.log
    host.stop()


def test_a_token_that_others_can_read_is_not_shown(remote: Remote) -> None:
    """The host exits 78 naming the file and the rule, never the token."""
    system = remote.system
    system.counting_project("careless", prefix="careless_")
    shown = system.root / "open-token"
    shutil.copy(remote.token, shown)
    shown.chmod(0o644)
    flags = ("--kernel", remote.dialed, "--token-file", str(shown))
    host = system.start_host("careless", *flags, side=remote.cable.host_side, serves=False)
    assert host.process.wait(30) == 78
    assert f"chmod 600 {shown}" in host.log
    assert remote.token.read_text().strip() not in host.log


def test_nothing_else_is_open(remote: Remote) -> None:
    """The kernel listens on its socket and on the one port that was asked for, and no other address of TCP."""
    assert remote.system.kernel is not None
    # Asked on the kernel's side: the system shows a process the ports of its own network.
    command = [*remote.cable.kernel_side, sys.executable, "-c", LISTENING, str(remote.system.kernel.pid)]
    asked = subprocess.run(command, check=True, capture_output=True, text=True)
    assert asked.stdout.split() == [served(remote.system).removeprefix("tls://")]
