"""Pilots: many instances of one host on one machine, each with a copy of the same code in a folder of its own.

The full size is ``make pilots``: 50 pilots, 10,000 runs, 25 pilots killed. Each pilot takes some 75 MiB.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from team_system import NOTING_STEPS, TeamSystem, reason_of

from nomaflow.client import TriggerOrder
from nomaflow.client.values import Triggered
from processes import is_alive
from real_system import Running, eventually

pytestmark = pytest.mark.e2e

PILOTS = int(os.environ.get("NOMAFLOW_PILOTS", "6"))
RUNS = int(os.environ.get("NOMAFLOW_PILOTS_RUNS", "300"))
KILLED = PILOTS // 2
SECONDS = float(os.environ.get("NOMAFLOW_PILOTS_SECONDS", "120"))
TOGETHER = 5
"""Pilots that are started at once: each loads its code, which takes a core a second or two."""
SLOTS = 4
CODE = (
    NOTING_STEPS
    + """
async def work(*, ledger, ctx, **_):
    note(ledger, "start", key=ctx.attempt_key)
    await asyncio.sleep(0.2)
    note(ledger, "end", key=ctx.attempt_key)
    return 1
"""
)
JOBS = """
[[jobs]]
id = "work"
overlap = "allow"
retry = { attempts = 1 }
steps = [{ callable = "work:work" }]
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[TeamSystem]:
    """A kernel, and the project of the host."""
    made = TeamSystem(
        root=tmp_path, kernel_flags=("--heartbeat-seconds", "5", "--lease-seconds", "20"), forks_templates=True
    )
    made.start_kernel()
    made.project("team", {"jobs.toml": JOBS, "plugins/work.py": CODE})
    yield made
    made.close()


def start_pilot(system: TeamSystem, number: int) -> Running:
    """Start a pilot in its folder, which is a copy of the project; a later life of it has the same folder."""
    project = system.root / f"node{number:02d}" / "app"
    if not project.exists():
        shutil.copytree(system.root / "team", project)
        (project / "nomaflow.toml").write_text(f'[host]\nname = "team"\nmax_async = {SLOTS}\nshared_workers = 1\n')
    return system.launch_host(f"pilot{number:02d}", project, "--kernel", system.kernel_address)


def attached(system: TeamSystem) -> set[int]:
    """Return the pids of the pilots that serve."""
    view = system.host_view("team")
    return {one.pid for one in view.instances if one.state == "ATTACHED" and one.generation} if view else set()


def until_attached(system: TeamSystem, pilots: Sequence[Running]) -> None:
    """Wait until these serve."""
    eventually(lambda: {each.pid for each in pilots} <= attached(system), seconds=SECONDS)


def start_all(system: TeamSystem) -> list[Running]:
    """Start all pilots, a few at a time."""
    pilots: list[Running] = []
    while len(pilots) < PILOTS:
        pilots += [start_pilot(system, number) for number in range(len(pilots), min(PILOTS, len(pilots) + TOGETHER))]
        until_attached(system, pilots)
    return pilots


def test_half_of_the_pilots_are_killed(system: TeamSystem) -> None:
    """One catalogue; each run is started once and ends once; who is killed leaves nothing, and says so when it is back."""
    pilots = start_all(system)
    ledger = system.ledger()
    order = TriggerOrder(job_id="work", params={"ledger": str(ledger.file)})
    triggered: list[str] = []
    dice, killed = random.Random(7), list(range(PILOTS))
    dice.shuffle(killed)
    for number in killed[:KILLED]:
        triggered += _trigger(system, order, RUNS // KILLED)
        ledger.wait_for("start", len(ledger.entries("start")) + 1)
        below = pilots[number].tree()
        pilots[number].kill()
        eventually(lambda below=below: not any(is_alive(pid) for pid in below))  # type: ignore[misc]
        pilots[number] = start_pilot(system, number)
    triggered += _trigger(system, order, RUNS - len(triggered))
    runs = [system.end(run_id) for run_id in triggered]
    until_attached(system, pilots)
    assert len(system.api.list_events(kinds=["host.manifest"]).events) == 1

    starts = Counter(str(entry["key"]) for entry in ledger.entries("start"))
    assert set(starts.values()) == {1}
    ended = {str(entry["key"]).partition("/")[0] for entry in ledger.entries("end")}
    for run in runs:
        if run.state == "FAILED":
            assert reason_of(run.steps[0].last) == "host_crashed", run
        else:
            assert (run.state, run.run_id in ended) == ("SUCCEEDED", True)
    failed = sum(run.state == "FAILED" for run in runs)
    assert 0 < failed <= KILLED * SLOTS  # what the killed ones held
    print(f"{PILOTS} pilots, {len(runs)} runs, {KILLED} killed: {failed} failed with their host")


def _trigger(system: TeamSystem, order: TriggerOrder, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        answers = system.api.trigger_many([order] * min(1_000, count - len(found)))
        found += [each.run_id for each in answers if isinstance(each, Triggered)]
    return found
