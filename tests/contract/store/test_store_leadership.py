"""One kernel leads on a PostgreSQL that several share: who gets the lease, who keeps it, who is fenced."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from store_histories import T0, Ids, queue, start
from store_places import PostgresPlace

from nomaflow_kernel.store import migrate, migrations
from nomaflow_kernel.store.errors import LeadLost, StaleEpoch, StoreBusy, StoreError, StoreLed, StoreUnavailable
from nomaflow_kernel.store.lease_row import LeasePolicy
from nomaflow_kernel.store.sql_store import Store, open_store
from postgres_server import SUPERUSER
from waiting import eventually

pytestmark = pytest.mark.postgres

PATIENCE = 60.0
ids = Ids()


class Contender:
    """A kernel's store with a short lease, and what it was told of its loss."""

    def __init__(self, url: str, *, name: str, ttl_seconds: float = 15.0) -> None:
        self.lost: asyncio.Future[StoreError] = asyncio.get_running_loop().create_future()
        lease = LeasePolicy(
            ttl_seconds=ttl_seconds,
            addresses=lambda: (("unix:/a,b/k.sock", f"{name}:1"), (f"{name}:2",)),
            on_lost=self.lost.set_result,
        )
        self.store: Store = open_store(url, holder=name, lock_wait_seconds=10, lease=lease)

    async def loss(self) -> StoreError:
        """Wait until the lease is lost and return why."""
        async with asyncio.timeout(PATIENCE):
            return await self.lost


@contextlib.asynccontextmanager
async def leading(place: PostgresPlace, name: str, *, ttl_seconds: float = 15.0) -> AsyncIterator[Contender]:
    """Open a store that leads; close it at the end."""
    contender = Contender(place.url, name=name, ttl_seconds=ttl_seconds)
    await contender.store.open()
    try:
        yield contender
    finally:
        await contender.store.close()


async def refused(place: PostgresPlace, name: str) -> StoreLed:
    """Return what a kernel is told that cannot lead."""
    store = Contender(place.url, name=name).store
    with pytest.raises(StoreLed) as caught:
        await store.open()
    await store.close()
    return caught.value


@contextlib.contextmanager
def holder_process(
    place: PostgresPlace, *, ttl_seconds: float = 15.0, task: str = "hold"
) -> Iterator[subprocess.Popen[bytes]]:
    """Start another process that leads, and kill it at the end."""
    child = Path(__file__).with_name("store_writing_child.py")
    with subprocess.Popen(
        [sys.executable, str(child), task, place.url, str(ttl_seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"open\n"
            yield process
        finally:
            process.kill()


async def expire(place: PostgresPlace) -> None:
    """Expire the lease, as when its holder is frozen."""
    await place.sql("UPDATE leadership SET lease_until_us = 1")


async def lease_until(place: PostgresPlace) -> int:
    """Return when the lease ends, in microseconds."""
    return int(str((await place.sql("SELECT lease_until_us FROM leadership"))[0][0]))


async def renewed(place: PostgresPlace, *, since: int) -> bool:
    """Return True if the lease ends later than it did."""
    return await lease_until(place) > since


async def test_a_second_kernel_is_told_who_leads(postgres_place: PostgresPlace) -> None:
    """A valid lease keeps other kernels out, and their attempts write nothing, however often they try."""
    async with leading(postgres_place, "first") as first:
        second = Contender(postgres_place.url, name="second")
        before = await postgres_place.sql("SELECT epoch, commits, holder FROM kernel")
        for _ in range(3):
            with pytest.raises(StoreLed, match=r"kernel 'first' is the leader at unix:/a,b/k\.sock, first:1") as caught:
                await second.store.open()
            assert (caught.value.holder, caught.value.addresses) == ("first", ("unix:/a,b/k.sock", "first:1"))
            assert caught.value.for_hosts().metadata == {"leader": "first:2"}
        assert await postgres_place.sql("SELECT epoch, commits, holder FROM kernel") == before
        await second.store.close()
        await first.store.ping()
    await eventually(postgres_place.nothing_left)


async def test_a_newer_kernel_does_not_migrate_while_another_leads(
    postgres_place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revision locks tables, for which the leader's commits would wait; it runs once this kernel may lead."""
    async with leading(postgres_place, "first"):
        await postgres_place.sql("UPDATE alembic_version SET version_num = '0006'")
        for module in (migrate, migrations):
            monkeypatch.setattr(module, "REVISIONS", ("0006", *migrations.REVISIONS))
        monkeypatch.setattr(migrate, "_run_revisions", lambda _: pytest.fail("it was migrated"))
        await refused(postgres_place, "second")


async def test_who_closes_gives_the_lease_back(postgres_place: PostgresPlace) -> None:
    """The next kernel need not wait for the lease to expire, and has the next epoch."""
    async with leading(postgres_place, "first"):
        await refused(postgres_place, "second")
    async with leading(postgres_place, "second"):
        assert await postgres_place.sql("SELECT term, holder FROM leadership") == [(2, "second")]


async def test_who_has_lost_the_lease_is_told_at_its_next_renewal(postgres_place: PostgresPlace) -> None:
    """Another kernel takes an expired lease, and the old leader, which has asked for nothing, is told."""
    async with leading(postgres_place, "first", ttl_seconds=3) as first:
        second = Contender(postgres_place.url, name="second")

        async def leads() -> bool:
            await expire(postgres_place)  # again, if the first one has renewed it meanwhile
            with contextlib.suppress(StoreLed):
                await second.store.open()
                return True
            return False

        await eventually(leads)
        assert isinstance(await first.loss(), (StaleEpoch, LeadLost))  # the latter where this machine is busy
        assert await postgres_place.sql("SELECT term, holder FROM leadership") == [(2, "second")]
        await second.store.close()


async def test_an_expired_lease_is_taken_and_its_holder_fenced(postgres_place: PostgresPlace) -> None:
    """The old leader's next write fails whole, its reads still work, and at its end it gives no other's lease back."""
    async with leading(postgres_place, "first", ttl_seconds=60) as first:
        taken = await lease_until(postgres_place)
        await eventually(lambda: renewed(postgres_place, since=taken))  # the next time is in 15 s
        await expire(postgres_place)
        async with leading(postgres_place, "second") as second:
            run_id = ids.new()
            await second.store.apply([queue(run_id)], at_us=T0)
            with pytest.raises(StaleEpoch, match="own epoch 1, found 2"):
                await first.store.apply([start(run_id)], at_us=T0)
            assert (await first.store.run_details([run_id]))[0].run.state == "QUEUED"
            assert not first.lost.done()
            await first.store.close()
            assert await lease_until(postgres_place) > 1
            assert await postgres_place.sql("SELECT term, holder FROM leadership") == [(2, "second")]


async def test_an_expired_lease_that_nobody_took_is_renewed(postgres_place: PostgresPlace) -> None:
    """A jump of the database's clock does not end the leadership: the kernel renews the lease and keeps others out."""
    async with leading(postgres_place, "first") as first:
        await expire(postgres_place)
        await eventually(lambda: renewed(postgres_place, since=1))
        await refused(postgres_place, "second")
        assert not first.lost.done()


async def test_a_process_that_has_ended_holds_no_lease(postgres_place: PostgresPlace) -> None:
    """A kernel killed and started again on its machine leads at once; one that is only stopped still holds."""
    second = Contender(postgres_place.url, name="second")
    with holder_process(postgres_place) as process:
        with pytest.raises(StoreLed):
            await second.store.open()
        process.kill()
        process.wait()
        assert (await second.store.open()).epoch == 2
        await second.store.close()


async def test_a_leader_that_does_not_renew_is_overdue(postgres_place: PostgresPlace) -> None:
    """Long before its lease is over, those who stand by are told, and may read what it has stored."""
    second = Contender(postgres_place.url, name="second")

    async def overdue() -> bool:
        with pytest.raises(StoreLed) as caught:
            await second.store.open()
        return caught.value.overdue

    with holder_process(postgres_place, ttl_seconds=12) as process:
        assert not await overdue()
        process.send_signal(signal.SIGSTOP)
        assert not await overdue()
        assert await second.store.manifests() == []
        await eventually(overdue, seconds=PATIENCE)
    await second.store.close()


async def test_a_clock_set_back_lets_no_frozen_leader_hold_on(postgres_place: PostgresPlace) -> None:
    """A leader that has not renewed for one lease period is replaced, even if its lease ends an hour from now."""
    second = Contender(postgres_place.url, name="second")

    async def leads() -> bool:
        try:
            await second.store.open()
        except StoreLed:
            return False
        return True

    with holder_process(postgres_place, ttl_seconds=5) as process:
        renewed_for = time.monotonic() + 6
        while time.monotonic() < renewed_for:
            assert not await leads()
            await asyncio.sleep(0.2)
        process.send_signal(signal.SIGSTOP)
        await postgres_place.sql("UPDATE leadership SET lease_until_us = lease_until_us + 3600 * 1000000::bigint")
        await eventually(leads, seconds=PATIENCE)
    assert await postgres_place.sql("SELECT term, holder FROM leadership") == [(2, "second")]
    await second.store.close()


async def test_a_leader_frozen_within_a_statement_holds_nobody_up(postgres_place: PostgresPlace) -> None:
    """PostgreSQL ends idle transactions only: one that waits for the rest of a statement is ended by the successor."""
    second = Contender(postgres_place.url, name="second", ttl_seconds=6)
    waiting = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE application_name = 'nomaflow-writer' AND state = 'active' AND wait_event = 'ClientRead'"
        " AND xact_start < clock_timestamp() - interval '4.1 seconds'"  # the successor waits for two thirds of a lease
    )

    async def frozen() -> bool:
        return bool(await postgres_place.sql(waiting))

    async def leads() -> bool:
        with contextlib.suppress(StoreLed, StoreBusy):
            await second.store.open()
            return True
        return False

    with holder_process(postgres_place, task="freeze"):
        await eventually(frozen)
        await expire(postgres_place)
        await eventually(leads)
        assert await postgres_place.sql("SELECT term, holder FROM leadership") == [(2, "second")]
        assert await postgres_place.sql("SELECT digest FROM host_digests") == [("1",)]
    await second.store.close()


async def test_of_a_process_elsewhere_nothing_is_known(postgres_place: PostgresPlace) -> None:
    """A kernel that died on another machine keeps its lease until it expires."""
    with holder_process(postgres_place):
        pass
    await postgres_place.sql("UPDATE leadership SET process = 'another-boot/pid:[1] 1 1', holder = 'elsewhere'")
    assert (await refused(postgres_place, "second")).holder == "elsewhere"
    await expire(postgres_place)
    async with leading(postgres_place, "second"):
        assert await postgres_place.sql("SELECT term, holder FROM leadership") == [(2, "second")]


async def test_a_busy_writer_does_not_starve_the_lease(postgres_place: PostgresPlace) -> None:
    """A transaction that holds the row that every commit needs does not delay the renewal of the lease."""
    async with leading(postgres_place, "first") as first:

        async def is_held() -> bool:
            sleeping = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
            return bool(await postgres_place.sql(sleeping))

        hold = "SELECT pg_sleep(300) FROM (SELECT 1 FROM kernel FOR UPDATE) AS held"
        holding = asyncio.create_task(postgres_place.sql(hold))
        await eventually(is_held)
        before = await lease_until(postgres_place)
        await eventually(lambda: renewed(postgres_place, since=before))
        assert not holding.done()
        assert not first.lost.done()
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding


async def test_who_cannot_reach_the_database_stops_by_itself(postgres_place: PostgresPlace) -> None:
    """A kernel without an answer counts its lease as lost before another can take it, and reports that once."""
    async with leading(postgres_place, "first", ttl_seconds=2) as first:
        name = postgres_place.name
        await postgres_place.sql_in("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await postgres_place.sql_in(
            "postgres", f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        why = await first.loss()
        assert isinstance(why, LeadLost)
        assert "could not renew its lease of 2 seconds in time" in str(why)
        await postgres_place.sql_in("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def test_a_renewal_whose_commit_hangs_is_left_alone(postgres_place: PostgresPlace) -> None:
    """The store is closed while the cancelled commit still waits for its answer; each closes its own connection."""
    hang = "BEGIN PERFORM pg_sleep(300); RETURN NULL; END"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        async with leading(postgres_place, "first", ttl_seconds=2) as first:
            await postgres_place.sql(f"CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS '{hang}'")
            await postgres_place.sql(
                "CREATE CONSTRAINT TRIGGER hangs AFTER UPDATE ON leadership DEFERRABLE INITIALLY DEFERRED"
                " FOR EACH ROW EXECUTE FUNCTION hang()"
            )
            assert "the database did not answer" in str(await first.loss())
        await eventually(lambda: not any(task.get_name() == "nomaflow-lease-renewal" for task in asyncio.all_tasks()))
        await eventually(postgres_place.nothing_left)
    assert not [str(each.message) for each in told]


@contextlib.asynccontextmanager
async def locked(place: PostgresPlace, lock: str) -> AsyncIterator[None]:
    """Hold a lock of another session's transaction."""
    connection = await asyncpg.connect(host=str(place.server.folder), user=SUPERUSER, database=place.name)
    try:
        async with connection.transaction():
            await connection.execute(lock)
            yield
    finally:
        await connection.close()


async def test_who_has_given_up_its_lease_does_not_say_that_it_leads(postgres_place: PostgresPlace) -> None:
    """The lease lasts a moment longer, in which nobody leads: no address is told, and least of all its own."""
    async with leading(postgres_place, "first", ttl_seconds=3) as first, locked(postgres_place, "LOCK leadership"):
        await first.loss()
    await postgres_place.sql("UPDATE leadership SET lease_until_us = lease_until_us + 3600 * 1000000::bigint")
    told = await refused(postgres_place, "first")
    assert str(told).startswith("this kernel is on standby: nobody leads until")
    assert (told.metadata, str(told.for_hosts())) == ({}, str(told))


async def test_a_kernel_without_the_lead_waits_for_no_answer(postgres_place: PostgresPlace) -> None:
    """Calls that wait for the database fail when the lease is lost, later ones at once: it may never answer."""
    async with leading(postgres_place, "first", ttl_seconds=8) as first:
        run_id = ids.new()
        async with locked(postgres_place, "LOCK TABLE kernel, runs IN ACCESS EXCLUSIVE MODE"):
            asking = [first.store.apply([queue(run_id)], at_us=T0), first.store.run_details([run_id])]
            waiting = [asyncio.ensure_future(each) for each in asking]
            await asyncio.sleep(0)  # lets both begin
            after = first.store.apply([queue(run_id)], at_us=T0)
            await postgres_place.sql("UPDATE leadership SET term = term + 1")
            why = await first.loss()
            written, read = await asyncio.gather(*waiting, return_exceptions=True)
            assert (type(written), getattr(written, "outcome_unknown", None)) == (StoreUnavailable, True)
            assert read is why
            with pytest.raises(StoreError) as caught:
                await after
            assert caught.value is why
            for late in (first.store.ping(), first.store.pauses()):
                with pytest.raises(type(why)):
                    await late
            await first.store.close()
        await eventually(postgres_place.nothing_left)


async def test_who_is_not_waited_for_gives_the_lease_back(postgres_place: PostgresPlace) -> None:
    """Nobody waits for the end of a close that a lock holds up: another kernel leads, and no session is left."""
    async with leading(postgres_place, "first") as first:
        async with locked(postgres_place, "SELECT 1 FROM kernel FOR UPDATE"):
            kept = first.store.apply([queue(ids.new())], at_us=T0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await first.store.close()
            with pytest.raises(StoreUnavailable):
                await kept
            assert await postgres_place.sql("SELECT lease_until_us FROM leadership") == [(0,)]
        async with leading(postgres_place, "second"):
            assert await postgres_place.sql("SELECT count(*) FROM runs") == [(0,)]


async def test_two_that_start_at_once_are_one_leader(postgres_place: PostgresPlace) -> None:
    """Many kernels that start on an empty database agree: one makes the schema and leads, the others are refused.

    So it is too if the database isolates transactions more strictly by default.
    """
    name = postgres_place.name
    await postgres_place.sql_in("postgres", f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    contenders = [Contender(postgres_place.url, name=f"kernel-{number}") for number in range(4)]
    outcomes = await asyncio.gather(*(each.store.open() for each in contenders), return_exceptions=True)
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert {type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)} <= {StoreLed}
    for each in contenders:
        await each.store.close()
