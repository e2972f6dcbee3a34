"""Backups of a running kernel, and a host that lives through a restore of an older history."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from team_system import NOTING_STEPS, Ledger, TeamSystem

from cli_command import Answer
from nomaflow.client import NotFound
from nomaflow.client.values import RunView
from processes import is_alive
from real_system import eventually

pytestmark = pytest.mark.e2e

CODE = (
    NOTING_STEPS
    + """
async def waits(*, ledger, ctx, **_):
    note(ledger, "start", key=ctx.attempt_key)
    print("first line")
    while not Path(ledger + ".go").exists():
        await asyncio.sleep(0.01)
    note(ledger, "end", key=ctx.attempt_key)
    return 1

async def quick(*, ledger, ctx, **_):
    note(ledger, "start", key=ctx.attempt_key)
    return 2
"""
)
JOBS = """
[[jobs]]
id = "waits"
overlap = "allow"
steps = [{ name = "one", callable = "work:waits" }, { name = "two", callable = "work:quick" }]

[[jobs]]
id = "quick"
overlap = "allow"
steps = [{ callable = "work:quick" }]
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamSystem]:
    """Start a kernel and a host whose steps wait for a file."""
    found = TeamSystem(root=tmp_path_factory.mktemp("backup"), forks_templates=True)
    try:
        found.start_kernel()
        found.project("team", {"plugins/work.py": CODE, "jobs.toml": JOBS})
        found.start_host("team")
        yield found
    finally:
        found.close()


def done(result: Answer) -> dict[str, Any]:
    """Return what a command printed as JSON."""
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def refusal(result: Answer) -> str:
    """Return the reason that a command refused with."""
    assert result.code != 0, result.out
    assert "Traceback" not in result.err
    return str(json.loads(result.err)["error"]["reason"])


def release(ledger: Ledger) -> None:
    """Let the step continue."""
    Path(f"{ledger.file}.go").touch()


def end(system: TeamSystem, run_id: str) -> RunView:
    """Wait for a run to be over, asking again and again: the history in which it runs may change."""
    return eventually(lambda: run if (run := system.run(run_id)).terminal else None)


def test_a_backup_of_a_busy_kernel_is_whole_and_durable_and_replaces_nothing(
    system: TeamSystem, tmp_path: Path
) -> None:
    """A backup during triggers holds everything acknowledged before, and its name appears only when it is complete."""
    ledger = system.ledger()
    before = [system.start("quick", ledger) for _ in range(20)]
    command = ("backup", str(tmp_path / "one.db"), "-o", "json")
    told = done(system.command(*command))
    after = [system.start("quick", ledger) for _ in range(5)]
    file = tmp_path / "one.db"
    assert (told["path"], told["bytes"]) == (str(file), file.stat().st_size)
    assert file.stat().st_mode & 0o777 == 0o600
    assert told["runs"] >= 20
    assert told["newest_event_at"]
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as copy:
        kept = {row[0] for row in copy.execute("SELECT run_id FROM runs")}
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert kept >= set(before)
    assert not kept & set(after)
    content = file.read_bytes()
    assert refusal(system.command(*command)) == "ALREADY_THERE"
    assert file.read_bytes() == content
    assert refusal(system.command(*command, "--address", "10.0.0.1:7433")) == "OTHER_MACHINE"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["one.db"]


@dataclass
class Life:
    """Four runs of one host: what each step noted of itself, and the runs' ids."""

    system: TeamSystem
    since: Ledger
    still: Ledger
    queued: Ledger
    unknown: Ledger
    ids: dict[str, str] = field(default_factory=dict)

    def before_the_backup(self) -> None:
        """Have two runs RUNNING and one QUEUED."""
        self.ids = {"since": self.system.start("waits", self.since), "still": self.system.start("waits", self.still)}
        self.since.wait_for("start")
        self.still.wait_for("start")
        self.system.api.pause(job_id="quick")
        self.ids["queued"] = self.system.start("quick", self.queued)
        eventually(lambda: all(self.system.run(self.ids[name]).state == "RUNNING" for name in ("since", "still")))

    def after_the_backup(self) -> None:
        """Let two of the steps end, trigger another, and raise the epoch."""
        release(self.since)
        self.system.api.resume(job_id="quick")
        assert end(self.system, self.ids["since"]).state == "SUCCEEDED"
        assert end(self.system, self.ids["queued"]).state == "SUCCEEDED"
        self.ids["unknown"] = self.system.start("waits", self.unknown)
        self.unknown.wait_for("start")
        self.system.kill("kernel")
        self.system.start_kernel()
        eventually(lambda: self.system.instance("team"))


@pytest.fixture
def life(system: TeamSystem) -> Life:
    """Give each run a ledger of its own, and see that no run of an earlier test is open."""
    eventually(lambda: not list(system.api.list_runs(states=["QUEUED", "RUNNING"])))
    return Life(system, *(system.ledger() for _ in range(4)))


def findings(system: TeamSystem) -> dict[str, str]:
    """Return what doctor finds: check → level."""
    told = json.loads(system.command("doctor", "-o", "json").out)
    return {each["check"]: each["level"] for each in told["findings"]}


def test_a_host_lives_through_a_restore_and_nothing_runs_twice(system: TeamSystem, life: Life, tmp_path: Path) -> None:
    """Open runs of the backup end as the host knows they did; what the backup does not know is stopped."""
    client, backup = system.api, tmp_path / "history.db"
    life.before_the_backup()
    assert done(system.command("backup", str(backup), "-o", "json"))["open_runs"] == 3
    life.after_the_backup()
    seen = client.get_kernel()
    found = findings(system)
    assert (found["kernel.health"], found["hosts.attached"], found["runs.open"]) == ("ok", "ok", "ok")
    assert refusal(system.command("restore", str(backup), "--force", "-o", "json")) == "STORE_IN_USE"
    system.kill("kernel")
    found = findings(system)
    assert (found["store.address"], found["kernel.answers"], found["store.damage"]) == ("warning", "problem", "ok")
    # Without a kernel, too, a backup holds all that a killed one had committed, though its log was never closed.
    done(system.command("backup", str(tmp_path / "dead.db"), "-o", "json"))
    assert holds(tmp_path / "dead.db", life.ids["unknown"])

    told = done(system.command("restore", str(backup), "--force", "-o", "json"))
    assert told["lost_events"] > 0
    assert holds(Path(told["replaced"]), life.ids["unknown"])
    system.start_kernel()
    eventually(lambda: system.instance("team"))
    kernel = client.get_kernel()
    assert kernel.epoch > seen.epoch
    assert kernel.last_event_seq > seen.last_event_seq
    assert_it_went_on(life)
    assert_it_was_paused(life)


def holds(file: Path, run_id: str) -> bool:
    """Return True if a history has the run."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as copy:
        found: tuple[int] = copy.execute("SELECT count(*) FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return found == (1,)


def assert_it_went_on(life: Life) -> None:
    """Check that the running steps are reported, and continue or are stopped, and that none starts again."""
    since = end(life.system, life.ids["since"])
    assert (since.state, since.rows_affected) == ("SUCCEEDED", 3)
    assert len(life.since.entries("start")) == 2, "each of its two steps started once, before the restore"
    with pytest.raises(NotFound):
        life.system.run(life.ids["unknown"])
    eventually(lambda: not is_alive(life.unknown.pid()))
    release(life.unknown)  # it would note its end now, if it still ran
    release(life.still)
    assert end(life.system, life.ids["still"]).state == "SUCCEEDED"
    assert life.still.pid("end") == life.still.pid("start"), "in the same worker"
    assert len(life.still.entries("start")) == 2
    assert not life.unknown.entries("end"), "it was to be stopped: nobody could see it"


def assert_it_was_paused(life: Life) -> None:
    """A person may look first; then what was queued turns out to have run already."""
    client = life.system.api
    assert life.system.run(life.ids["queued"]).state == "QUEUED"
    fresh = life.system.start("waits")
    assert life.system.run(fresh).state == "QUEUED"
    client.cancel(fresh)
    assert client.resume()
    client.resume(job_id="quick")
    assert end(life.system, life.ids["queued"]).state == "SUCCEEDED"
    assert len(life.queued.entries("start")) == 1
