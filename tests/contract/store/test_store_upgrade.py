"""A store of a version before the first release is refused, with the way out, and stays as it was."""

from __future__ import annotations

import pytest
from store_histories import T0, Ids, queue
from store_places import Place

from nomaflow_kernel.store.errors import StoreUnusable
from nomaflow_kernel.store.migrations import HEAD, REVISIONS
from nomaflow_kernel.store.sql_store import open_store

ids = Ids()


@pytest.mark.parametrize("revision", ["0001", "0004"])
async def test_a_store_of_a_development_version_is_refused(place: Place, revision: str) -> None:
    """The message names both revisions and says what to do; nothing was written."""
    store = open_store(place.url)
    await store.open()
    await store.apply([queue(ids.new())], at_us=T0)
    await store.close()
    await place.sql("ALTER TABLE kernel DROP COLUMN mark")  # as the schema was then
    await place.sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    before = await place.sql("SELECT * FROM kernel")
    with pytest.raises(StoreUnusable, match=rf"'{revision}'.*'{REVISIONS[0]}'.*use the version that wrote it"):
        await store.open()
    assert await place.sql("SELECT * FROM kernel") == before
    assert await place.sql("SELECT version_num FROM alembic_version") == [(revision,)]


async def test_the_first_schema_is_converted(place: Place) -> None:
    """A store of revision 0007 gets what is new, and loses the definitions that no run has."""
    store = open_store(place.url)
    await store.open()
    await store.apply([queue(ids.new(), definition_digest="kept")], at_us=T0)
    await store.close()
    await place.sql("DROP INDEX runs_by_definition")
    await place.sql("ALTER TABLE tokens DROP COLUMN lifetime_seconds")
    if place.kind == "postgresql":
        await place.sql("ALTER TABLE runs ALTER COLUMN definition_digest TYPE text")
    await place.sql("INSERT INTO definitions (digest, job_id, body) VALUES ('left', 'nightly', '{}')")
    await place.sql("UPDATE alembic_version SET version_num = '0007'")
    await store.open()
    assert await store.tokens() == []
    await store.close()
    assert await place.sql("SELECT digest FROM definitions") == [("kept",)]
    assert await place.sql("SELECT version_num FROM alembic_version") == [(HEAD,)]
    with pytest.raises(Exception, match="runs_by_definition"):
        await place.sql("CREATE INDEX runs_by_definition ON runs (run_id)")
    if place.kind == "postgresql":
        column = "attrelid = 'runs'::regclass AND attname = 'definition_digest'"
        assert await place.sql(f"SELECT attcollation = '\"C\"'::regcollation FROM pg_attribute WHERE {column}") == [
            (True,)
        ]


async def test_a_new_store_is_at_the_head(place: Place) -> None:
    """It gets the newest schema at once."""
    store = open_store(place.url)
    await store.open()
    await store.close()
    assert await place.sql("SELECT version_num FROM alembic_version") == [(HEAD,)]
