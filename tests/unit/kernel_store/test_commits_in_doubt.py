"""A connection that is lost during a commit: what has become of it is looked up, and never guessed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from nomaflow_kernel.ports import PauseRecord
from nomaflow_kernel.store.errors import StaleEpoch, StoreUnavailable
from nomaflow_kernel.store.migrate import migrate, take_over
from nomaflow_kernel.store.operations.scheduling import set_pause
from nomaflow_kernel.store.session import KnownDigests, WriteSession
from nomaflow_kernel.store.sqlite_connections import create_database_file, writing_engine
from nomaflow_kernel.store.transaction import CommitInDoubt, commit_batch


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Connect to a store of epoch 1."""
    path = str(tmp_path / "kernel.db")
    create_database_file(path)
    made = writing_engine(path, lock_wait_seconds=1.0)
    with made.connect() as connection, connection.begin():
        migrate(connection)
        take_over(connection, holder="test")
    yield made
    made.dispose()


def _lose_connection(engine: Engine, *, after_commit: bool) -> None:
    """Have the next commit lose its connection, before or after the database has done it."""

    def lose(connection: Connection) -> None:
        event.remove(engine, "commit", lose)
        if after_commit:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("COMMIT")
        raise ConnectionResetError("connection reset by peer")

    event.listen(engine, "commit", lose)


def _pause(session: WriteSession) -> str:
    pause = PauseRecord(scope="all", name="", by="ann", why="", since_us=1, until_us=None)
    set_pause(session.connection, pause)
    return "done"


def _doubt(engine: Engine) -> CommitInDoubt:
    with engine.connect() as connection, pytest.raises(CommitInDoubt) as caught:
        commit_batch(connection, [_pause], epoch=1, known_digests=KnownDigests())
    return caught.value


@pytest.mark.parametrize("after_commit", [False, True])
def test_the_next_connection_shows_what_became_of_it(engine: Engine, after_commit: bool) -> None:
    """What was committed is answered as done, what was lost as failed, and neither as unknown."""
    _lose_connection(engine, after_commit=after_commit)
    doubt = _doubt(engine)
    with engine.connect() as connection:
        (outcome,) = doubt.settle(connection)
        kept = connection.exec_driver_sql("SELECT count(*) FROM pauses").scalar_one()
    assert kept == int(after_commit)
    if after_commit:
        assert (outcome.value, outcome.error) == ("done", None)
    else:
        assert isinstance(outcome.error, StoreUnavailable)
        assert not outcome.error.outcome_unknown


def test_a_kernel_that_was_replaced_meanwhile_is_fenced(engine: Engine) -> None:
    """Then it does not matter what became of the commit."""
    _lose_connection(engine, after_commit=True)
    doubt = _doubt(engine)
    with engine.connect() as connection:
        with connection.begin():
            take_over(connection, holder="another")
        (outcome,) = doubt.settle(connection)
    assert isinstance(outcome.error, StaleEpoch)
