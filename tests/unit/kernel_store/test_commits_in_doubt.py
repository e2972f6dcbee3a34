"""A connection that is lost during a commit: what has become of it is looked up, and never guessed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.history.transitions import SetPause
from nomaflow_kernel.store.errors import StaleEpoch, StoreUnavailable
from nomaflow_kernel.store.migrate import migrate, take_over
from nomaflow_kernel.store.operations.apply import apply_transitions
from nomaflow_kernel.store.session import Known, WriteSession
from nomaflow_kernel.store.sqlite import SqliteLink, create_database_file, writing_engine
from nomaflow_kernel.store.transaction import CommitInDoubt, commit_batch
from nomaflow_kernel.store.writer import Writer


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Connect to a store of epoch 1."""
    path = str(tmp_path / "kernel.db")
    create_database_file(path)
    made = writing_engine(path, lock_wait_seconds=1.0)
    with made.connect() as connection, connection.begin():
        _take(connection)
    yield made
    made.dispose()


def _take(connection: Connection) -> StoreInfo:
    migrate(connection)
    return take_over(connection, holder="test")


def _lose_connection(engine: Engine, *, after_commit: bool, then: str = "SELECT 1") -> None:
    """Have the next commit lose its connection, before or after the database has done it and a statement more."""

    def lose(connection: Connection) -> None:
        event.remove(engine, "commit", lose)
        if after_commit:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("COMMIT")
            driver.execute(then)
        raise ConnectionResetError("connection reset by peer")

    event.listen(engine, "commit", lose)


def _pause(session: WriteSession) -> str:
    pause = PauseRecord(scope="all", name="", by="ann", why="", since_us=1, until_us=None)
    apply_transitions(session, [SetPause(pause=pause)], at_us=1)
    return "done"


def _doubt(engine: Engine) -> CommitInDoubt:
    with engine.connect() as connection, pytest.raises(CommitInDoubt) as caught:
        commit_batch(connection, [_pause], epoch=1, known=Known())
    return caught.value


@pytest.mark.parametrize("after_commit", [False, True])
def test_the_next_connection_shows_what_became_of_it(engine: Engine, after_commit: bool) -> None:
    """A committed operation is reported as done, a lost one as failed, and neither as unknown."""
    _lose_connection(engine, after_commit=after_commit)
    doubt = _doubt(engine)
    with engine.connect() as connection:
        before = connection.exec_driver_sql("SELECT commits FROM kernel").scalar_one()
        connection.rollback()
        (outcome,) = doubt.settle(connection)
        kept = connection.exec_driver_sql("SELECT count(*) FROM pauses").scalar_one()
        after = connection.exec_driver_sql("SELECT commits FROM kernel").scalar_one()
    assert kept == int(after_commit)
    if after_commit:
        assert (outcome.value, outcome.error) == ("done", None)
    else:
        assert isinstance(outcome.error, StoreUnavailable)
        assert not outcome.error.outcome_unknown
    # What was given up writes only where nothing was committed since, so that it can never be done later.
    assert after == before + (not after_commit)


def test_a_kernel_that_was_replaced_meanwhile_is_fenced(engine: Engine) -> None:
    """A commit in doubt ends with StaleEpoch if another kernel has taken over, whatever became of it."""
    _lose_connection(engine, after_commit=True)
    doubt = _doubt(engine)
    with engine.connect() as connection:
        with connection.begin():
            take_over(connection, holder="another")
        (outcome,) = doubt.settle(connection)
    assert isinstance(outcome.error, StaleEpoch)


async def test_the_writer_outlives_a_commit_that_cannot_be_looked_up(tmp_path: Path) -> None:
    """Waiting callers learn that the outcome is unknown, even if the driver says so; then the writer continues."""
    path = str(tmp_path / "kernel.db")
    create_database_file(path)
    engine = writing_engine(path, lock_wait_seconds=1.0)
    writer = Writer(SqliteLink(lambda: engine))
    await writer.start(_take)
    try:
        _lose_connection(engine, after_commit=True, then="ALTER TABLE kernel RENAME TO elsewhere")
        async with asyncio.timeout(60):
            with pytest.raises(StoreUnavailable) as caught:
                await writer.submit(_pause)
            assert caught.value.outcome_unknown
            with closing(sqlite3.connect(path)) as other:
                other.execute("ALTER TABLE elsewhere RENAME TO kernel")
            assert await writer.submit(_pause) == "done"
    finally:
        await writer.stop()


async def test_the_writer_outlives_what_nobody_foresaw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of any kind while it settles a doubt or lets a connection go is an answer, not the end of the thread."""
    path = str(tmp_path / "kernel.db")
    create_database_file(path)
    engine = writing_engine(path, lock_wait_seconds=1.0)
    writer = Writer(SqliteLink(lambda: engine))
    await writer.start(_take)

    def fail(*_: object) -> None:
        raise LookupError("nobody foresaw this")

    close = Connection.close

    def close_and_fail(connection: Connection) -> None:
        close(connection)
        fail()

    try:
        with monkeypatch.context() as broken:
            _lose_connection(engine, after_commit=False)
            broken.setattr(CommitInDoubt, "settle", fail)
            broken.setattr(Connection, "close", close_and_fail)
            async with asyncio.timeout(60):
                with pytest.raises(StoreUnavailable) as caught:
                    await writer.submit(_pause)
        assert caught.value.outcome_unknown
        async with asyncio.timeout(60):
            assert await writer.submit(_pause) == "done"
    finally:
        await writer.stop()
