"""Faults of a database file: no room, locks, two kernels, sudden death, copies, foreign schemas."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event
from store_histories import T0, Ids, finish, logged, queue, start
from store_places import SqlitePlace

from nomaflow_kernel.store.errors import (
    StoreBusy,
    StoreFull,
    StoreInUse,
    StoreUnavailable,
    StoreUnusable,
    UnsupportedStore,
)
from nomaflow_kernel.store.migrations import HEAD
from nomaflow_kernel.store.session import WriteSession
from nomaflow_kernel.store.sql_store import Store, open_store
from nomaflow_kernel.store.sqlite import SqliteLink, reading_engine
from nomaflow_kernel.upkeep.backup import back_up
from waiting import eventually

CHILD = [sys.executable, str(Path(__file__).with_name("store_writing_child.py"))]
ids = Ids()


@pytest.fixture
async def store(sqlite_place: SqlitePlace) -> AsyncIterator[Store]:
    """Open a store on SQLite."""
    opened = open_store(sqlite_place.url, lock_wait_seconds=0.3)
    await opened.open()
    yield opened
    await opened.close()


async def set_page_limit(store: Store, pages: int) -> None:
    def limit(session: WriteSession) -> None:
        session.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    await store._write(limit)


async def test_a_full_store_refuses_and_heals(store: Store, sqlite_place: SqlitePlace) -> None:
    """A batch without room fails whole with StoreFull while reads work; with room, numbers continue without a gap."""
    kept = ids.new()
    await store.apply([queue(kept)], at_us=T0)
    await set_page_limit(store, 1)
    refused = ids.new()
    calls = [store.apply([queue(refused), logged(refused, 1, 10_000)], at_us=T0), store.apply([start(kept)], at_us=T0)]
    first, _ = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, StoreFull)
    assert "free disk space" in str(first)
    assert [d.run.run_id for d in await store.run_details([kept, refused])] == [kept]
    await set_page_limit(store, 1_000_000)
    result = await store.apply([queue(refused), logged(refused, 1, 10_000)], at_us=T0)
    seqs = [e.seq for e in (await store.events_after(0, limit=10)).events]
    assert seqs == list(range(1, result.events[-1].seq + 1))
    assert await sqlite_place.sql("PRAGMA integrity_check") == [("ok",)]


async def test_nobody_waits_twice_for_one_lock(sqlite_place: SqlitePlace) -> None:
    """Calls that arrive while the writer waits for another process's lock fail together with the earlier ones."""
    store = open_store(sqlite_place.url, lock_wait_seconds=1.5)
    await store.open()
    holder = sqlite3.connect(sqlite_place.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        first = asyncio.ensure_future(store.ping())
        await asyncio.sleep(0)  # it is in the queue now
        await eventually(lambda: taken(store))
        late = [asyncio.ensure_future(store.ping()) for _ in range(3)]
        answers = await asyncio.gather(first, *late, return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreBusy}
        assert len({id(answer) for answer in answers}) == 1, "they waited for the same lock, once"
    finally:
        holder.close()
    await store.ping()
    await store.close()


async def taken(store: Store) -> bool:
    """Return True once the writer has taken the waiting calls."""
    return store.waiting == 0


def test_a_disk_that_refuses_a_write_is_a_full_store(sqlite_place: SqlitePlace) -> None:
    """A write error of the system (here: a limit on file sizes) is StoreFull, and writes work once it is lifted."""
    done = subprocess.run([*CHILD, "fill", sqlite_place.url], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    full, kept = done.stdout.splitlines()
    assert full.startswith("full the history store cannot grow")
    _, acknowledged, events, last_seq = kept.split()
    assert acknowledged == events == last_seq


async def test_every_acknowledged_change_survives_kill_9(sqlite_place: SqlitePlace) -> None:
    """A process killed while writing loses nothing that it was told is kept, and the file is whole."""
    for _ in range(3):
        child = subprocess.Popen([*CHILD, "write", sqlite_place.url], stdout=subprocess.PIPE)
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(500)]
        child.kill()
        lines += child.stdout.read().splitlines(keepends=True)
        child.stdout.close()
        child.wait()
        said = [line.decode().split() for line in lines if line.endswith(b"\n")]
        store = open_store(sqlite_place.url)
        await store.open()
        queued = {run_id for what, run_id in said if what == "queued"}
        ended = {run_id for what, run_id in said if what == "finished"}
        found = {d.run.run_id: d.run.state for d in await store.run_details(sorted(queued | ended))}
        events = (await store.events_after(0, limit=100_000)).events
        await store.close()
        assert found.keys() == queued | ended
        assert {found[r] for r in ended} == {"SUCCEEDED"}
        assert [e.seq for e in events] == list(range(1, len(events) + 1))
        assert await sqlite_place.sql("PRAGMA integrity_check") == [("ok",)]


async def test_a_second_kernel_is_told_who_has_the_store(sqlite_place: SqlitePlace) -> None:
    """Opening a store that another process holds fails at once and names its pid; when that ends, it opens."""
    child = subprocess.Popen([*CHILD, "hold", sqlite_place.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"open\n"
    store = open_store(sqlite_place.url)
    with pytest.raises(StoreInUse, match=f"pid {child.pid}") as caught:
        await store.open()
    assert caught.value.pid == child.pid
    child.stdin.close()
    child.wait(timeout=10)
    child.stdout.close()
    info = await store.open()
    await store.close()
    assert info.epoch == 2


async def test_two_stores_of_one_process_exclude_each_other_too(store: Store, sqlite_place: SqlitePlace) -> None:
    """The lock holds within a process, also by another name of the file."""
    link = sqlite_place.path.with_name("link.db")
    link.symlink_to(sqlite_place.path)
    with pytest.raises(StoreInUse, match=f"pid {os.getpid()}"):
        await open_store(f"sqlite+aiosqlite:///{link}").open()
    await store.ping()


async def test_a_backup_taken_while_writing_is_a_store(store: Store, sqlite_place: SqlitePlace, tmp_path: Path) -> None:
    """The copy holds a prefix of the history, all that was kept before included, and opens as a store."""
    before = [ids.new() for _ in range(200)]
    await store.apply([queue(r) for r in before], at_us=T0)
    stop = asyncio.Event()

    async def write() -> int:
        count = 0
        while not stop.is_set():
            await store.apply([queue(ids.new())], at_us=T0)
            count += 1
        return count

    writing = asyncio.create_task(write())
    copies = [tmp_path / f"copy{n}.db" for n in range(5)]
    for path in copies:
        await asyncio.to_thread(back_up, sqlite_place.path, path)
    stop.set()
    assert await writing > 0
    for path in copies:
        assert path.stat().st_mode & 0o777 == 0o600
        copy = open_store(f"sqlite:///{path}")
        await copy.open()
        seqs = [e.seq for e in (await copy.events_after(0, limit=100_000)).events]
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(await copy.run_details(before)) == 200
        await copy.close()


async def test_a_newer_schema_is_refused_untouched(sqlite_place: SqlitePlace) -> None:
    """A store of a newer version is left byte for byte as it was, and the message names both revisions."""
    store = open_store(sqlite_place.url)
    await store.open()
    await store.close()
    await sqlite_place.sql("UPDATE alembic_version SET version_num = '9999'")
    before = sqlite_place.path.read_bytes()
    with pytest.raises(StoreUnusable, match=rf"'9999'.*'{HEAD}'"):
        await store.open()
    assert sqlite_place.path.read_bytes() == before


async def test_what_is_not_a_store_is_refused(tmp_path: Path) -> None:
    """A missing folder and a file of another kind give an error that names the trouble, and keep no lock."""
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        await open_store(f"sqlite:///{tmp_path}/no/history.db").open()
    (tmp_path / "text.db").write_text("this is not a database, but a longer text" * 20)
    store = open_store(f"sqlite:///{tmp_path}/text.db")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="not a database"):
            await store.open()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreUnavailable, match="folder' is not a file"):
        await open_store(f"sqlite:///{tmp_path}/folder").open()
    assert not (tmp_path / "folder.lock").exists()


def test_a_url_that_names_no_store_is_refused() -> None:
    """The error shows the URL without its password and what would be right."""
    for url, why in {
        "sqlite://": "kept in a file",
        "sqlite:///:memory:": "kept in a file",
        "sqlite:///%3Amemory%3A": "kept in a file",
        "sqlite:///a%00b": "kept in a file",
        "postgresql+asyncpg://a@b/c?sslmode=require": "write ssl=require",
        "postgresql+asyncpg://a@/c?host=b&port=x": r"a wrong value: Received non-integer port arguments: \('x',\)",
        "postgresql+asyncpg://a@b/c?prepared_statement_cache_size=x": "a wrong value: invalid literal for int",
        "postgresql+asyncpg://a@b/c?speed=9": "'speed'",
        "postgresql+asyncpg://a@b:99999/c": "no port 99999",
        "mysql://root:secret@db/x": "unknown kind of database 'mysql'",
        "history.db": "not a database URL",
        "postgresql//ann:secret@db/x": "the store 'db/x': not a database URL",
        "postgresql://ann:p@secret:w/rd@db/x": "'db/x': not a database URL; in a user and a password, write %40 for @",
    }.items():
        with pytest.raises(UnsupportedStore, match=why) as caught:
            open_store(url)
        assert "secret" not in str(caught.value)
        assert "sqlite:///PATH" in str(caught.value)


async def test_the_file_is_for_its_owner_and_always_safe(store: Store, sqlite_place: SqlitePlace) -> None:
    """Mode 0600, WAL, synchronous FULL on the connection that writes, and readers that cannot write."""
    assert {p.stat().st_mode & 0o777 for p in sqlite_place.path.parent.glob("history.db*")} == {0o600}

    def pragmas(session: WriteSession) -> list[object]:
        names = ("journal_mode", "synchronous")
        return [session.connection.exec_driver_sql(f"PRAGMA {n}").scalar_one() for n in names]

    assert await store._write(pragmas) == ["wal", 2]
    with pytest.raises(Exception, match="readonly"):
        await store._read(lambda c: c.exec_driver_sql("DELETE FROM kernel"))


def test_the_lock_file_of_a_dead_kernel_does_not_matter(sqlite_place: SqlitePlace) -> None:
    """A lock file of a killed process, with a stale pid, does not keep another kernel out."""
    Path(f"{sqlite_place.path}.lock").write_text("1\n")

    async def open_and_close() -> None:
        store = open_store(sqlite_place.url)
        await store.open()
        await store.close()

    asyncio.run(open_and_close())
    connection = sqlite3.connect(sqlite_place.path)
    assert connection.execute("SELECT epoch FROM kernel").fetchall() == [(1,)]
    connection.close()


async def test_the_removal_of_a_large_log_does_not_write_it_again(store: Store, sqlite_place: SqlitePlace) -> None:
    """SQLite's build may overwrite what is freed, which takes seconds for a run, and every trigger waits meanwhile."""
    run_id = ids.new()
    chunks = [logged(run_id, 1000 * n + 1, 1000, body=bytes(65_536)) for n in range(100)]
    await store.apply([queue(run_id), start(run_id), *chunks, finish(run_id)], at_us=T0)
    await sqlite_place.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert await store.prune(job_id="", keep_runs=0, before_us=None, limit=1) == 1
    written = sqlite_place.path.with_name(sqlite_place.path.name + "-wal").stat().st_size
    assert written < len(chunks) * 65_536 / 4


async def test_a_history_whose_log_alone_is_left_is_not_begun_anew(sqlite_place: SqlitePlace, store: Store) -> None:
    """SQLite would throw the log away, and with it, in a young store, nearly everything; put back, the file serves."""
    run = ids.new()
    await store.apply([queue(run)], at_us=T0)
    file = Path(sqlite_place.path)
    copies = {name: Path(f"{file}{name}").read_bytes() for name in ("", "-wal")}
    await store.close()
    file.unlink()
    Path(f"{file}-wal").write_bytes(copies["-wal"])
    again = open_store(sqlite_place.url)
    with pytest.raises(StoreUnavailable, match="is gone and "):
        await again.open()
    await again.close()
    assert Path(f"{file}-wal").read_bytes() == copies["-wal"]
    file.write_bytes(copies[""])
    back = open_store(sqlite_place.url)
    await back.open()
    assert [found.run.run_id for found in await back.run_details([run])] == [run]
    await back.close()


async def test_a_closed_store_is_one_file(sqlite_place: SqlitePlace, store: Store) -> None:
    """Readers close one after the other: of two that close at once, neither takes the log into the file."""
    await store.apply([queue(ids.new())], at_us=T0)
    both_connected, both_closing, met = threading.Barrier(2), threading.Barrier(2), []

    def meet(*_: object) -> None:
        try:
            met.append(both_closing.wait(0.3))
        except threading.BrokenBarrierError:
            both_closing.reset()

    def engine() -> Engine:
        made = reading_engine(sqlite_place.path)
        event.listen(made, "close", meet)
        return made

    link = SqliteLink(engine, threads=2)
    await asyncio.gather(*(link.run(lambda _: both_connected.wait(10)) for _ in range(2)))
    await store.close()
    await link.close()
    assert met == []
    assert not Path(f"{sqlite_place.path}-wal").exists()
