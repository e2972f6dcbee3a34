"""Two hundred hosts that come at once, and come back at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from faults_system import FaultSystem, open_faults

from real_system import eventually

pytestmark = pytest.mark.e2e

HOSTS = 200
SCRIPT = Path(__file__).with_name("many_hosts.py")


@pytest.fixture
def system() -> Iterator[FaultSystem]:
    """Start a kernel with the default clocks: the tests' short ones would have 200 hosts say 400 heartbeats a second."""
    root = Path(tempfile.mkdtemp(prefix="nf-"))
    with open_faults(root, "--heartbeat-seconds", "5") as started:
        yield started
    shutil.rmtree(root)


def rss(system: FaultSystem) -> int:
    """Return the kernel's resident bytes."""
    assert system.kernel is not None
    return psutil.Process(system.kernel.pid).memory_info().rss


def all_attached(crowds: list[subprocess.Popen[str]]) -> None:
    """Wait until every host is attached."""
    for crowd in crowds:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "attached\n"


def test_two_hundred_hosts_at_once(system: FaultSystem) -> None:
    """All are attached within 30 s, after the kernel's death too, and the kernel takes no more than 64 MiB for them."""
    before = rss(system)
    address = system.kernel_project / ".nomaflow" / "address"
    began = time.monotonic()
    crowds = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(address), f"crowd{number}", str(HOSTS // 2)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )
        for number in range(2)
    ]  # fmt: skip
    try:
        all_attached(crowds)
        assert time.monotonic() - began < 90
        system.kill("kernel")
        system.start_kernel()
        began = time.monotonic()
        all_attached(crowds)
        assert time.monotonic() - began < 90
        # A host is LOADING from its welcome until its manifest is known.
        eventually(lambda: len({view.name for view in system.api.list_hosts() if view.state == "ATTACHED"}) == HOSTS)
        assert rss(system) < before + (64 << 20)
    finally:
        for crowd in crowds:
            crowd.communicate("", timeout=240)
