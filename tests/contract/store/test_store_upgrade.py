"""A store of an earlier version is brought to the present in place, with all that is in it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, create_engine, insert, inspect, select
from sqlalchemy.ext.asyncio import create_async_engine
from store_histories import T0, Ids, finish, finished, opened, queue, start
from store_places import Place

from nomaflow_kernel.store import migrations, open_store, schema
from nomaflow_kernel.store.migrations import HEAD, REVISIONS

Rows = dict[str, list[dict[str, Any]]]
ids = Ids()


def _rows(connection: Connection) -> Rows:
    """Return every row of every table, but for the list of revisions."""
    found = MetaData()
    found.reflect(connection)
    tables = [table for table in found.sorted_tables if table.name != "alembic_version"]
    return {table.name: [dict(row) for row in connection.execute(select(table)).mappings()] for table in tables}


def _make_at(connection: Connection, *, revision: str, rows: Rows) -> None:
    """Make the tables as they were at a revision, and put rows into those that existed then."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    there = set(inspect(connection).get_table_names())
    for table in schema.metadata.sorted_tables:
        if table.name in there:
            connection.execute(table.delete())
            if rows[table.name]:
                connection.execute(insert(table), rows[table.name])


async def _within(place: Place, work: Any) -> Any:
    if place.kind == "sqlite":
        engine = create_engine(place.url)
        try:
            with engine.begin() as connection:
                return work(connection)
        finally:
            engine.dispose()
    remote = create_async_engine(place.url)
    try:
        async with remote.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await remote.dispose()


async def test_a_store_of_any_earlier_revision_opens_with_its_data(place: Place, tmp_path: Path) -> None:
    """A store of each earlier revision opens with all rows, a higher epoch, and attempts that can be finished."""
    origin = open_store(f"sqlite:///{tmp_path}/origin.db")
    await origin.open()
    done, running = ids.new(), ids.new()
    await origin.apply([queue(done), start(done), opened(done), finished(done), finish(done)], at_us=T0)
    await origin.apply([queue(running), start(running), opened(running)], at_us=T0)
    await origin.close()
    engine = create_engine(f"sqlite:///{tmp_path}/origin.db")
    with engine.connect() as connection:
        rows = _rows(connection)
    engine.dispose()
    for revision in REVISIONS[:-1]:
        await _within(place, partial(_make_at, revision=revision, rows=rows))
        store = open_store(place.url)
        info = await store.open()
        assert (info.epoch, info.last_event_seq) == (2, 8)
        assert [detail.run.run_id for detail in (await store.active_runs()).running] == [running]
        await store.apply([finished(running), finish(running)], at_us=T0)
        states = {run.run.run_id: run.run.state for run in await store.run_details([done, running])}
        assert states == {done: "SUCCEEDED", running: "SUCCEEDED"}
        await store.close()
        kept = await _within(place, _rows)
        assert {name: kept[name] for name in ("definitions", "log_chunks")} == {
            name: rows[name] for name in ("definitions", "log_chunks")
        }
        assert [row for row in kept["runs"] if row["run_id"] == done] == [
            row for row in rows["runs"] if row["run_id"] == done
        ]
        assert await place.sql("SELECT version_num FROM alembic_version") == [(HEAD,)]
