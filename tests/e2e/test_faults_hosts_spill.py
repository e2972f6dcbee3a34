"""A kernel that answers heartbeats and takes no reports, until a host's spill file is at its cap."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults_system import FaultSystem, Work, open_faults
from team_system import reason_of

from real_system import eventually

pytestmark = pytest.mark.e2e

CAP = 2 << 20
HOST = f"""#!{sys.executable} -P
import asyncio, os, sys
from nomaflow_host.outbox import event_storage as spill
from nomaflow_host.session import link

spill.SpillStore.__init__.__kwdefaults__.update(cap_bytes={CAP}, memory_cap_bytes={64 << 10})
deliver = link.Link.report

async def report(self, request, *, deadline_s):
    while os.path.exists(os.environ["TEST_HOLDS_REPORTS"]):
        await asyncio.sleep(0.05)
    return await deliver(self, request, deadline_s=deadline_s)

link.Link.report = report
from nomaflow_host.__main__ import main
sys.exit(main(sys.argv[4:]))
"""


@pytest.fixture
def system() -> Iterator[FaultSystem]:
    """Start a kernel."""
    root = Path(tempfile.mkdtemp(prefix="nf-"))
    with open_faults(root) as started:
        yield started
    shutil.rmtree(root)


def said(work: Work) -> int:
    """Return how many lines a step has got rid of, in hundreds."""
    return len(work.ledger.entries("hundred"))


def test_a_spill_file_at_its_cap(system: FaultSystem) -> None:
    """Workers are held, nothing is dispatched, heartbeats continue; nothing is lost once the kernel takes reports."""
    system.counting_project("team")
    hold = system.root / "hold"
    program = system.root / "held_host"
    program.write_text(HOST)
    program.chmod(0o700)
    host = system.start_host("team", python=str(program), environ={"TEST_HOLDS_REPORTS": str(hold)})
    hold.touch()
    works = [system.work(job, lines=12_500, width=400) for job in ("sync_shout", "shout")]
    for work in works:
        work.ledger.wait_for("hundred")
    queued = eventually(lambda: _held(system))
    counts = eventually(lambda: _standing_still(system, works))
    assert max(counts) < 125
    assert not any(work.ledger.entries("end") for work in works)
    seen = system.instance("team", pid=host.pid)
    assert seen is not None
    assert seen.saturated
    assert CAP * 0.9 <= seen.spilled_bytes < CAP + (2 << 20)
    assert (queued.run().state, queued.ledger.entries()) == ("QUEUED", [])
    hold.unlink()
    for work in works:
        assert system.end(work.run_id).state == "SUCCEEDED"
        work.is_whole()
    queued.under_way().succeeds_whole()
    eventually(lambda: not list((system.root / "team").rglob("*.events")))


def _held(system: FaultSystem) -> Work | None:
    """Return a run that the kernel dispatches to no host, or None if it still does."""
    work = system.work("ticks")
    eventually(lambda: reason_of(work.run()) or work.run().state != "QUEUED")
    if reason_of(work.run()) == "waiting_for_host":
        return work
    work.until.touch()
    return None


def _standing_still(system: FaultSystem, works: list[Work]) -> list[int] | None:
    """Return how much the steps have said, None if they say more between two heartbeats."""
    before = [said(work) for work in works]
    _next_heartbeat(system)
    _next_heartbeat(system)
    return before if [said(work) for work in works] == before else None


def _next_heartbeat(system: FaultSystem) -> None:
    seen = system.instance("team")
    assert seen is not None
    eventually(lambda: (now := system.instance("team")) and now.last_heartbeat_at != seen.last_heartbeat_at)
