"""Faults of a database server: ended connections, lost answers, no room, two kernels."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import pytest
from store_histories import T0, Ids, finish, finished, logged, opened, queue, start
from store_places import PostgresPlace

from machine_parts import need
from nomaflow_kernel.store.errors import StoreFull, StoreUnavailable, StoreUnusable, UnsupportedStore
from nomaflow_kernel.store.session import WriteSession
from nomaflow_kernel.store.sql_store import Store, open_store
from postgres_commits import CommitSigns
from postgres_server import SUPERUSER
from waiting import eventually

pytestmark = pytest.mark.postgres

ids = Ids()

END_SESSIONS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
async def store(postgres_place: PostgresPlace) -> AsyncIterator[Store]:
    """Open a store on PostgreSQL."""
    opened = open_store(postgres_place.url, lock_wait_seconds=0.3)
    await opened.open()
    yield opened
    await opened.close()


class LossyProxy:
    """Stands between kernel and server on a Unix socket.

    :ivar swallow_before_commit: breaks the connection instead of passing on the next commit
    :ivar swallow_after_commit: breaks it before the answer to the next commit
    :ivar late_commit: waited for before the next commit is passed on; its connection breaks at once
    :ivar late_answer: what the server answers to that
    :ivar refuse: refuses connections
    :ivar asked: number of messages that have gone to the server, each of which waits for an answer
    """

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder = folder
        self._target = target
        self._links: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.swallow_after_commit = False
        self.swallow_before_commit = False
        self.refuse = False
        self.late_commit: asyncio.Event | None = None
        self.late_answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.asked = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.folder / ".s.PGSQL.5432")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        self._writers.append(writer)
        if self.refuse:
            writer.close()
            return
        up_reader, up_writer = await asyncio.open_unix_connection(self._target / ".s.PGSQL.5432")
        answers = asyncio.create_task(self._pump(up_reader, writer))
        with contextlib.suppress(ConnectionError):
            await self._forward(reader, writer, up_writer, answers=answers, up_reader=up_reader)
        answers.cancel()
        await asyncio.wait([answers])
        for end in (up_writer, writer):
            end.close()
            with contextlib.suppress(ConnectionError):
                await end.wait_closed()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_writer: asyncio.StreamWriter,
        *,
        answers: asyncio.Task[None],
        up_reader: asyncio.StreamReader,
    ) -> None:
        signs = CommitSigns()
        while data := await reader.read(65536):
            self.asked += 1
            commits = signs.commits(data)
            if commits and self.late_commit is not None:
                late, self.late_commit = self.late_commit, None
                answers.cancel()
                await asyncio.wait([answers])
                writer.close()
                await late.wait()
                up_writer.write(data)
                self.late_answer.set_result(await up_reader.read(65536))
                return
            if commits and self.swallow_before_commit:
                self.swallow_before_commit = False
                return
            if commits and self.swallow_after_commit:
                self.swallow_after_commit = False
                answers.cancel()
                await asyncio.wait([answers])
                up_writer.write(data)
                await up_reader.read(65536)
                return
            up_writer.write(data)
            await up_writer.drain()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
async def proxied(postgres_place: PostgresPlace, tmp_path: Path) -> AsyncIterator[tuple[Store, LossyProxy]]:
    """Open a store through a proxy."""
    async with LossyProxy(tmp_path, postgres_place.server.folder) as proxy:
        store = open_store(postgres_place.url.replace(str(postgres_place.server.folder), str(tmp_path)))
        await store.open()
        yield store, proxy
        await store.close()


async def test_a_lost_answer_to_a_commit_is_read_again(proxied: tuple[Store, LossyProxy]) -> None:
    """Commit done, answer lost: the calls succeed with their results, and nothing is written twice."""
    store, proxy = proxied
    proxy.swallow_after_commit = True
    runs = [ids.new() for _ in range(3)]
    results = await asyncio.gather(*(store.apply([queue(r), start(r)], at_us=T0) for r in runs))
    assert not proxy.swallow_after_commit
    assert [r.lost for r in results] == [frozenset()] * 3
    assert [e.seq for e in (await store.events_after(0, limit=50)).events] == [1, 2, 3, 4, 5, 6]


async def test_a_commit_asks_the_server_once(proxied: tuple[Store, LossyProxy]) -> None:
    """A far server costs a commit one way there and back: one statement writes everything, if the kernel leads."""
    store, proxy = proxied
    counts = []
    for _ in range(5):  # the first has its statements prepared; at any time the lease may be renewed
        begins, ends = ids.new(), ids.new()
        await store.apply([queue(ends), start(ends)], at_us=T0)
        before = proxy.asked
        one = store.apply([queue(begins), start(begins), opened(begins)], at_us=T0)
        other = store.apply([logged(ends, 1, 3), finish(ends)], at_us=T0)
        await asyncio.gather(one, other)
        counts.append(proxy.asked - before)
    assert min(counts) == 1, counts


async def test_the_order_of_what_is_written_makes_no_new_statement(store: Store) -> None:
    """The server parses and plans a commit once, whichever of its operations came first."""

    def known(session: WriteSession) -> int:
        text = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'WITH%'"
        return int(session.connection.exec_driver_sql(text).scalar_one())

    counts = []
    for turn in (1, 1, -1):  # the first stores the definition, too
        begins, ends = ids.new(), ids.new()
        await store.apply([queue(begins), queue(ends), start(ends)], at_us=T0)
        await asyncio.gather(*(store.apply([each], at_us=T0) for each in (start(begins), finish(ends))[::turn]))
        counts.append(await store._write(known))
    assert counts[1] == counts[2]


def plans_of_commits(session: WriteSession) -> str:
    """Return the plans of all statements that the session has kept for commits."""
    connection = session.connection
    known = connection.exec_driver_sql(
        "SELECT name, cardinality(parameter_types) FROM pg_prepared_statements WHERE statement LIKE 'WITH w0%%'"
    )
    explained: list[str] = []
    for name, values in known.all():
        nothing = ", ".join(["NULL"] * values)
        explained += connection.exec_driver_sql(f'EXPLAIN EXECUTE "{name}"({nothing})').scalars()
    return "\n".join(explained)


async def test_a_commit_finds_its_rows_by_their_key(store: Store, postgres_place: PostgresPlace) -> None:
    """Planned for no rows, and again for thousands: no walk through all runs, or through those in one state."""
    await postgres_place.sql("VACUUM ANALYZE")  # the server knows now that there are no rows

    async def plans() -> str:
        for run_ids in ([ids.new()], [ids.new(), ids.new()]):
            for change in (queue, start, opened, finished, finish):
                await store.apply([change(run_id) for run_id in run_ids], at_us=T0)
        return await store._write(plans_of_commits)

    for_none = await plans()
    many = [ids.new() for _ in range(4_000)]
    await store.apply([change for r in many for change in (queue(r), start(r), opened(r))], at_us=T0)
    for_many = await plans()
    for plan in (for_none, for_many):
        assert not re.search("runs_by_state|Hash Join|Merge Join", plan), plan
        assert set(re.findall(r"Seq Scan on (\w+)", plan)) <= {"kernel"}, plan  # of one row
    assert {"runs_pkey", "attempts_pkey"} <= set(re.findall(r"Index Scan using (\w+)", for_many)), for_many
    assert not re.search(r"Index Scan using .*\n(?!.*Index Cond)", for_many), for_many


async def test_a_read_asks_the_server_three_times(proxied: tuple[Store, LossyProxy]) -> None:
    """BEGIN, the question and ROLLBACK: a connection is not asked first whether it is still there."""
    store, proxy = proxied
    counts = []
    for _ in range(5):
        before = proxy.asked
        await store.pauses()
        counts.append(proxy.asked - before)
    assert min(counts) == 3, counts


async def test_a_commit_that_did_not_arrive_is_done_again(proxied: tuple[Store, LossyProxy]) -> None:
    """The connection breaks before the commit: it is done once, on a new one."""
    store, proxy = proxied
    proxy.swallow_before_commit = True
    run_id = ids.new()
    result = await store.apply([queue(run_id)], at_us=T0)
    assert not proxy.swallow_before_commit
    assert [e.seq for e in result.events] == [1]
    assert [e.seq for e in (await store.events_after(0, limit=50)).events] == [1]


async def test_a_commit_that_arrives_too_late_is_not_done(proxied: tuple[Store, LossyProxy]) -> None:
    """A commit that was given up and done again changes nothing when the network delivers it after all."""
    store, proxy = proxied
    await store.apply([queue(ids.new())], at_us=T0)  # the first commit asks for more
    proxy.late_commit = late = asyncio.Event()
    try:
        again = await store.apply([twice := queue(ids.new())], at_us=T0)
    finally:
        late.set()
    assert b"division by zero" in await proxy.late_answer
    assert [event.run_id for event in again.events] == [twice.run.run_id]
    assert [e.seq for e in (await store.events_after(0, limit=50)).events] == [1, 2]


async def test_an_outcome_that_cannot_be_read_is_called_unknown(proxied: tuple[Store, LossyProxy]) -> None:
    """Commit done, answer lost and the server gone: the error says so; later the outcome can be read."""
    store, proxy = proxied
    proxy.swallow_after_commit = True
    proxy.refuse = True
    run_id = ids.new()
    with pytest.raises(StoreUnavailable, match="not known") as caught:
        await store.apply([queue(run_id)], at_us=T0)
    assert caught.value.outcome_unknown
    with pytest.raises(StoreUnavailable) as caught:
        await store.ping()
    assert not caught.value.outcome_unknown
    proxy.refuse = False
    again = await store.apply([queue(run_id)], at_us=T0)
    assert again.duplicates[run_id] == run_id


async def test_what_the_server_has_refused_is_in_no_doubt(store: Store, postgres_place: PostgresPlace) -> None:
    """A commit that the server answers with an error was not done, even if nothing can be read either."""
    await store.apply([queue(ids.new())], at_us=T0)
    await postgres_place.sql("ALTER TABLE kernel RENAME TO elsewhere")
    with pytest.raises(StoreUnavailable) as caught:
        await store.apply([queue(ids.new())], at_us=T0)
    assert not caught.value.outcome_unknown
    await postgres_place.sql("ALTER TABLE elsewhere RENAME TO kernel")
    assert [e.seq for e in (await store.apply([queue(ids.new())], at_us=T0)).events] == [2]


async def test_ended_sessions_are_replaced(store: Store, postgres_place: PostgresPlace) -> None:
    """The next write and the next read work on new sessions after the server ended all of them."""
    await store.pauses()
    run_id = ids.new()
    await store.apply([queue(run_id)], at_us=T0)
    await postgres_place.sql(END_SESSIONS)
    result = await store.apply([start(run_id)], at_us=T0)
    assert (result.lost, [e.seq for e in result.events]) == (frozenset(), [2])
    assert len(await store.run_details([run_id])) == 1


async def test_a_network_that_is_cut_is_noticed(postgres_place: PostgresPlace) -> None:
    """A write and a read fail within half a minute, not after TCP's quarter of an hour, and others work then."""
    need("unshare", "ip", namespaces=True)
    child = Path(__file__).with_name("store_cut_off_child.py")
    url = f"postgresql+asyncpg://{SUPERUSER}@127.0.0.1/{postgres_place.name}"
    server = str(postgres_place.server.folder / ".s.PGSQL.5432")
    done = await asyncio.to_thread(
        subprocess.run,
        ["unshare", "--net", sys.executable, str(child), url, server],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=200,
    )
    seconds, works = done.stdout.splitlines()
    assert all(5 < float(each) < 30 for each in seconds.split())
    assert works == "works"


async def test_no_room_on_the_server_is_a_full_store(store: Store, postgres_place: PostgresPlace) -> None:
    """SQLSTATE 53100 is StoreFull for all that waited, and heals."""
    await postgres_place.sql(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
    )
    await postgres_place.sql("CREATE TRIGGER full_disk BEFORE INSERT ON events EXECUTE FUNCTION no_room()")
    run_id = ids.new()
    with pytest.raises(StoreFull, match="could not extend file"):
        await store.apply([queue(run_id)], at_us=T0)
    assert list(await store.run_details([run_id])) == []
    await postgres_place.sql("DROP TRIGGER full_disk ON events")
    assert (await store.apply([queue(run_id)], at_us=T0)).events[0].seq == 1


async def test_a_time_limit_of_the_servers_admin_does_not_bind_commits(postgres_place: PostgresPlace) -> None:
    """A large commit, or a migration, would reach it again and again."""
    await postgres_place.sql(f"ALTER DATABASE {postgres_place.name} SET statement_timeout = '1ms'")
    store = open_store(postgres_place.url)
    try:
        await store.open()
        result = await store.apply([queue(ids.new()) for _ in range(300)], at_us=T0)
        assert len(result.events) == 300
    finally:
        await store.close()


async def test_a_definition_that_the_server_has_lost_is_stored_again(
    store: Store, postgres_place: PostgresPlace
) -> None:
    """A server that was replaced by a replica without the last commits gets the definitions of later runs."""
    await store.apply([queue(ids.new(), definition_digest="kept")], at_us=T0)
    await store.apply([queue(ids.new(), definition_digest="lost")], at_us=T0)
    for lost in (
        "DELETE FROM definitions WHERE digest = 'lost'",
        "DELETE FROM runs WHERE definition_digest = 'lost'",
        "DELETE FROM events WHERE seq = 2",
        "UPDATE kernel SET last_event_seq = 1, commits = commits - 1",
        END_SESSIONS,
    ):
        await postgres_place.sql(lost)
    run_id = ids.new()
    await store.apply([queue(run_id, definition_digest="lost")], at_us=T0)
    (found,) = await store.run_details([run_id])
    assert found.definition == {"id": "nightly"}


async def test_a_database_that_cannot_hold_every_text_is_refused(postgres_place: PostgresPlace) -> None:
    """A run's error in another script would otherwise fail its commit for ever."""
    other = PostgresPlace(postgres_place.server, f"{postgres_place.name}_latin")
    encoding = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    await postgres_place.sql_in("postgres", f"CREATE DATABASE {other.name} {encoding}")
    try:
        with pytest.raises(UnsupportedStore, match=r"encoding of the database is LATIN1.*ENCODING 'UTF8'"):
            await open_store(other.url).open()
        assert await other.sql("SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
    finally:
        await other.drop()


async def test_what_cannot_be_opened_says_why_and_leaves_nothing(postgres_place: PostgresPlace) -> None:
    """A missing database, an unreachable server and a newer schema are clear errors."""
    threads = threading.active_count()
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await open_store(postgres_place.url.replace(postgres_place.name, "nowhere")).open()
    with pytest.raises(StoreUnavailable):
        await open_store("postgresql+asyncpg://nomaflow@/x?host=/nonexistent").open()
    store = open_store(postgres_place.url)
    await store.open()
    await store.close()
    await postgres_place.sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnusable, match="'9999'"):
        await open_store(postgres_place.url).open()
    await eventually(lambda: threading.active_count() <= threads)
