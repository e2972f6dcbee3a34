"""A history moves from one database to another, whole or not at all, and two kernels never work on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from store_places import Place, PostgresPlace, SqlitePlace

import nomaflow_kernel
from bench.store_size import write_history
from nomaflow_kernel.history.access_records import AuditRecord
from nomaflow_kernel.history.lookups import LogFilter, RunFilter
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.history.transitions import SetPause
from nomaflow_kernel.store.errors import MaintenanceRefused, StoreMoved, StoreUnfinished
from nomaflow_kernel.store.file_lock import FileLock
from nomaflow_kernel.store.history_copy import StorePlace, copy_store
from nomaflow_kernel.store.migrations import HEAD
from nomaflow_kernel.store.sql_store import Store, open_store
from nomaflow_kernel.upkeep.backup import back_up
from nomaflow_kernel.upkeep.copy_and_reclaim import copy_history_to, reclaim_history
from waiting import eventually


@pytest.fixture
def other_place(tmp_path: Path) -> SqlitePlace:
    """Give a path for a second SQLite store."""
    return SqlitePlace(tmp_path / "other.db")


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Store]:
    """Open a store as a kernel does."""
    store = open_store(place.url, holder="test", lock_wait_seconds=0.3)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def fill(place: Place, *, runs: int = 20, logged: int = 5) -> None:
    """Write a history with logs, a manifest and a pause."""
    async with opened(place) as store:
        await write_history(store, runs=runs, logged=logged, lines=20)
        manifest = {"é": "ü" * 50, "nested": {"big": 10**30}}
        await store.introduce_manifest(
            "team", digest="d", manifest=manifest, job_ids=["job-01"], explicit=False, at_us=1
        )
        await store.apply(
            [SetPause(pause=PauseRecord(scope="job", name="job-1", by="ann", why="ß", since_us=1, until_us=None))],
            at_us=1,
        )


async def add_events(place: SqlitePlace, newest: int) -> None:
    """Fill a history up with events of no run, so that there are as many."""
    (first,) = (await place.sql("SELECT last_event_seq FROM kernel"))[0]
    await place.sql(
        f"""WITH RECURSIVE numbers(n) AS (SELECT {first} + 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {newest})
        INSERT INTO events
        SELECT n, n * 1000, 'host.attached', '', '', '', 0, '', '', 'é', 'team', '', '{{}}' FROM numbers"""
    )
    await place.sql(f"UPDATE kernel SET last_event_seq = {newest}")


async def content(place: Place) -> dict[str, Any]:
    """Return all that a kernel finds in a store, by the store's own operations."""
    async with opened(place) as store:
        found: dict[str, Any] = {"runs": [], "events": [], "logs": []}
        before = ""
        while page := (await store.list_runs(RunFilter(), before=before, limit=500)).runs:
            found["runs"] += await store.run_details([run.run_id for run in page])
            before = page[-1].run_id
        seq = 0
        while events := (await store.events_after(seq, limit=1000)).events:
            found["events"] += events
            seq = events[-1].seq
        for run in (detail.run for detail in found["runs"]):
            if run.log_lines:
                found["logs"].append(await store.log_page(run.run_id, LogFilter(), limit=100))
        found["schedules"], found["pauses"] = await store.schedules(), await store.pauses()
        found["manifests"] = await store.manifests()
    return found


async def move(source: Place, target: Place) -> dict[str, Any]:
    """Move a history as the command's tool does."""
    return await asyncio.to_thread(copy_history_to, source.url, target.url)


async def refused(source: Place, target: Place) -> MaintenanceRefused:
    """Return why a copy is not made."""
    with pytest.raises(MaintenanceRefused) as caught:
        await move(source, target)
    assert caught.value.fix
    return caught.value


@pytest.mark.postgres
async def test_ten_thousand_events_move_there_and_back(
    sqlite_place: SqlitePlace, postgres_place: PostgresPlace, other_place: SqlitePlace
) -> None:
    """Every run, event and log line is kept, numbers and epochs continue, and no connection of the copy stays open."""
    await fill(sqlite_place, runs=300, logged=60)
    await add_events(sqlite_place, 10_000)
    before = await content(sqlite_place)
    assert len(before["events"]) == 10_000
    for source, target in ((sqlite_place, postgres_place), (postgres_place, other_place)):
        epoch = (await source.sql("SELECT epoch FROM kernel"))[0][0]
        done = await move(source, target)
        assert done["rows"]["events"] == len(before["events"])
        assert done["last_event_seq"] == before["events"][-1].seq
        await eventually(target.nothing_left)
        assert (await target.sql("SELECT epoch, last_event_seq FROM kernel"))[0] == (epoch + 1, done["last_event_seq"])  # type: ignore[operator]  # a number
        assert await content(target) == before
        with pytest.raises(StoreMoved) as caught:
            await open_store(source.url).open()
        assert caught.value.other == done["target"]


async def test_a_history_moves_within_a_kind(sqlite_place: SqlitePlace, other_place: SqlitePlace) -> None:
    """A history moves from SQLite to SQLite, into a file for its owner alone, like every history."""
    await fill(sqlite_place)
    before = await content(sqlite_place)
    await move(sqlite_place, other_place)
    assert await content(other_place) == before
    assert other_place.path.stat().st_mode & 0o777 == 0o600


async def test_the_audit_moves_along_and_goes_on(place: Place, other_place: SqlitePlace) -> None:
    """Moved, and even with its oldest rows gone, the chain verifies in the new store, and the next row builds on it."""
    rows = [
        AuditRecord(at_us=at, principal="ann", address="unix:", action="Pause", target="*", outcome="ok")
        for at in range(1, 9)
    ]
    async with opened(place) as store:
        await store.append_audit(rows)
        await store.prune_audit(before_us=4, limit=100)
        ends = await store.audit_ends()
    assert (await move(place, other_place))["rows"]["audit"] == 5
    async with opened(other_place) as store:
        assert await store.audit_ends() == ends
        await store.append_audit(rows[:1])
        verdict = await store.verify_audit()
    assert (verdict.rows, verdict.first_seq, verdict.last_seq, verdict.bad_seq) == (6, 4, 9, 0)


async def test_a_kernel_holds_what_it_works_on(place: Place, other_place: SqlitePlace) -> None:
    """A store that a kernel has is not copied, nor is one copied over it; both stay as they are."""
    await fill(other_place)
    async with opened(place):
        refusal = await refused(place, SqlitePlace(other_place.path.with_name("new.db")))
        assert (refusal.reason, StorePlace(place.url).shown in refusal.message) == ("STORE_IN_USE", True)
        assert (await refused(other_place, place)).reason == "ALREADY_THERE"
    async with opened(other_place) as store:
        assert len(await store.pauses()) == 1


async def test_what_is_not_copied(place: Place, sqlite_place: SqlitePlace, other_place: SqlitePlace) -> None:
    """One store twice, a history that is not there, a target with anything in it, a later revision: each is named."""
    new = SqlitePlace(other_place.path.with_name("new.db"))
    assert (await refused(place, new)).reason == "NO_HISTORY"
    assert not new.path.exists()
    await fill(place)
    assert (await refused(place, place)).reason == "SAME_STORE"
    await other_place.sql("CREATE TABLE customers (id INTEGER)")
    refusal = await refused(place, other_place)
    assert (refusal.reason, "customers" in refusal.message) == ("ALREADY_THERE", True)
    later = f"{HEAD[0]}{int(HEAD[1:]) + 1:03}"
    await place.sql(f"UPDATE alembic_version SET version_num = '{later}'")
    refusal = await refused(place, new)
    assert (refusal.reason, later in refusal.message) == ("SCHEMA_TOO_NEW", True)
    await place.sql(f"UPDATE alembic_version SET version_num = '{HEAD}'")
    await move(place, new)
    refusal = await refused(place, SqlitePlace(new.path.with_name("third.db")))
    assert (refusal.reason, str(new.path) in refusal.message) == ("STORE_MOVED", True)


async def test_the_store_that_fails_is_named(sqlite_place: SqlitePlace, other_place: SqlitePlace) -> None:
    """The way out differs: a damaged history, or a place where nothing can be written."""
    await fill(sqlite_place, runs=1)
    other_place.path.write_bytes(b"no database" * 500)
    for source, target in ((other_place, sqlite_place), (sqlite_place, other_place)):
        refusal = await refused(source, target)
        assert (refusal.reason, str(other_place.path) in refusal.message) == ("COPY_FAILED", True), refusal
    nowhere = SqlitePlace(sqlite_place.path / "below-a-file.db")
    assert str(nowhere.path) in (await refused(sqlite_place, nowhere)).message


async def test_a_copy_that_differs_is_no_copy(sqlite_place: SqlitePlace, other_place: SqlitePlace) -> None:
    """A row that differs from the written one is noticed; the old store still works, and the new one never starts."""
    await fill(sqlite_place)
    before = await content(sqlite_place)

    def spoil(table: str, _rows: int) -> None:
        if table == "events":
            with closing(sqlite3.connect(other_place.path, timeout=5)) as raw, raw:
                raw.execute("UPDATE events SET data = '{}' || data WHERE seq = 7")

    with pytest.raises(MaintenanceRefused) as caught:
        await copy_store(StorePlace(sqlite_place.url), StorePlace(other_place.url), progress=spoil)
    assert (caught.value.reason, "events" in caught.value.message) == ("COPY_DIFFERS", True)
    with pytest.raises(StoreUnfinished):
        await open_store(other_place.url).open()
    assert await content(sqlite_place) == before


async def test_a_copy_that_was_killed_starts_no_kernel(sqlite_place: SqlitePlace, place: Place, tmp_path: Path) -> None:
    """The new store says that it is not whole and what to do; the old one is as it was."""
    source = SqlitePlace(tmp_path / "source.db")
    await fill(source)
    await add_events(source, 60_000)
    child = await tool("copy", source.url, "--to", place.url)

    async def marked() -> bool:
        with contextlib.suppress(sqlite3.Error, asyncpg.PostgresError, IndexError):  # no table yet, or an empty one
            return (await place.sql("SELECT mark FROM kernel"))[0][0] == "copying"
        return False

    await eventually(marked, seconds=30)
    child.send_signal(signal.SIGKILL)
    await child.wait()
    code, text = await kernel_on(place.url, tmp_path)
    assert (code, text.count("\n")) == (78, 1), text
    assert "unfinished copy" in text
    assert "nomaflow store copy" in text
    assert (await refused(source, place)).reason == "ALREADY_THERE"
    again = SqlitePlace(tmp_path / "again.db")
    await move(source, again)


async def test_a_copy_that_ended_between_its_last_marks_is_finished(place: Place, other_place: SqlitePlace) -> None:
    """No kernel may use either store then; the same copy again lets them use the new one, and copies nothing."""
    await fill(place)
    before = await content(place)
    first = await move(place, other_place)
    source = first["source"]
    unfinished = f"UPDATE kernel SET mark = 'copying', other_store = '{source}'"
    await other_place.sql(unfinished)
    for left, error in ((place, StoreMoved), (other_place, StoreUnfinished)):
        with pytest.raises(error):
            await open_store(left.url).open()
    again = await move(place, other_place)
    assert {**again, "seconds": first["seconds"]} == first
    assert await content(other_place) == before
    assert (await refused(place, other_place)).reason == "STORE_MOVED"
    await other_place.sql(f"{unfinished}, store_id = 'of another copy'")
    assert (await refused(place, other_place)).reason == "STORE_MOVED"


async def test_a_moved_history_can_be_taken_back(place: Place, other_place: SqlitePlace, tmp_path: Path) -> None:
    """A kernel refuses a moved history and names the way back; taken back, it is paused, and its counters continue."""
    await fill(place)
    before = await content(place)
    with pytest.raises(MaintenanceRefused, match="was not moved"):
        await asyncio.to_thread(reclaim_history, place.url)
    await move(place, other_place)
    if place.kind == "sqlite":
        with pytest.raises(MaintenanceRefused) as moved:
            back_up(Path(StorePlace(place.url).file or ""), tmp_path / "backup.db")
        assert moved.value.fix.endswith(f": nomaflow store reclaim {place.url}")
        code, text = await kernel_on(place.url, tmp_path)
        assert (code, text.count("\n")) == (78, 1), text
        assert str(other_place.path) in text
        assert "nomaflow store reclaim" in text
        lock = FileLock(StorePlace(place.url).file or "")
        lock.acquire()
        with pytest.raises(MaintenanceRefused, match=f"pid {os.getpid()}"):
            await asyncio.to_thread(reclaim_history, place.url)
        lock.release()
    done = await asyncio.to_thread(reclaim_history, place.url)
    assert str(other_place.path) in done["moved_to"]
    epoch, seq = (await place.sql("SELECT epoch, last_event_seq FROM kernel"))[0]
    assert abs(int(str(epoch)) - time.time()) < 60
    assert int(str(seq)) > before["events"][-1].seq
    after = await content(place)
    assert (after["runs"], after["logs"]) == (before["runs"], before["logs"])
    assert {pause.scope for pause in after["pauses"]} == {"all", "job"}


@pytest.mark.postgres
async def test_the_statements_after_a_pg_restore_do_what_a_restore_does(postgres_place: PostgresPlace) -> None:
    """The page has them: a new id, a pause without end in place of one that ends, and counters that continue."""
    await fill(postgres_place)
    await postgres_place.sql("INSERT INTO pauses VALUES ('all', '', 'ann', 'for an hour', 1, 3600000001)")
    (before,) = await postgres_place.sql("SELECT store_id FROM kernel")
    page = (Path(nomaflow_kernel.__file__).parents[2] / "docs" / "backup.md").read_text()
    (block,) = re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for _ in range(2):
        for statement in block.strip().removesuffix(";").split(";\n"):
            await postgres_place.sql(statement)
    ((store_id, epoch, seq),) = await postgres_place.sql("SELECT store_id, epoch, last_event_seq FROM kernel")
    assert len(str(store_id)) == len(str(before[0]))
    assert store_id != before[0]
    assert abs(int(str(epoch)) - time.time()) < 60
    assert abs(int(str(seq)) / 1_000_000 - time.time()) < 60
    async with opened(postgres_place) as store:
        (paused,) = [pause for pause in await store.pauses() if pause.scope == "all"]
    assert paused.until_us is None


async def tool(*arguments: str) -> asyncio.subprocess.Process:
    """Start the command's tool."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nomaflow_kernel.upkeep", *arguments, stdout=asyncio.subprocess.PIPE
    )


async def kernel_on(url: str, folder: Path) -> tuple[int, str]:
    """Start a kernel on a store that it is to refuse; return its exit code and what it said."""
    project = folder / "project"
    project.mkdir(exist_ok=True)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nomaflow_kernel", "--project", str(project), "--store", url,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONWARNINGS": "error"},
    )  # fmt: skip
    async with asyncio.timeout(60):
        _, errors = await child.communicate()
    return child.returncode or 0, errors.decode()


async def test_the_tool_tells_in_json_what_it_has_done(sqlite_place: SqlitePlace, other_place: SqlitePlace) -> None:
    """One object on its output, and nothing else without a terminal."""
    await fill(sqlite_place)
    child = await tool("copy", sqlite_place.url, "--to", other_place.url)
    out, _ = await child.communicate()
    assert json.loads(out)["done"]["rows"]["runs"] == 25
