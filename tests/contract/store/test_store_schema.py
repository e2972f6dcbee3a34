"""The tables in code and the tables of a store are the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from store_places import Place, SqlitePlace

from nomaflow_kernel.store import migrations, schema
from nomaflow_kernel.store.errors import MaintenanceRefused, StoreUnusable
from nomaflow_kernel.store.history_copy import StorePlace, copy_store
from nomaflow_kernel.store.sql_store import Store, open_store


async def test_a_store_has_the_tables_of_the_code(store: Store) -> None:
    """Alembic finds no difference of tables, columns, types and indexes between a store and the code."""

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, schema.metadata))

    assert await store._read(differences) == []


@pytest.mark.parametrize("there", ["events (id int)", "alembic_version (version_num varchar(32))"])
async def test_tables_of_another_program_are_left_alone(place: Place, there: str, tmp_path: Path) -> None:
    """The kernel neither uses them nor makes its own beside them; it names them, and a file stays as it is."""
    await place.sql(f"CREATE TABLE {there}")
    name, before = there.partition(" ")[0], _content(place)
    with pytest.raises(StoreUnusable, match=f"another program: {name}; give the kernel an empty database"):
        await open_store(place.url).open()
    assert _content(place) == before
    with pytest.raises((StoreUnusable, MaintenanceRefused)):
        await copy_store(StorePlace(place.url), StorePlace(f"sqlite:///{tmp_path}/new.db"), progress=lambda _, __: None)
    assert _content(place) == before
    with pytest.raises(Exception, match="runs"):
        await place.sql("SELECT * FROM runs")


def _content(place: Place) -> bytes:
    """Return the bytes of a file, in which its journal mode is; none of a server's database."""
    return place.path.read_bytes() if isinstance(place, SqlitePlace) else b""


@pytest.mark.parametrize("there", [["ae1027a6acf"], ["0001"], [migrations.HEAD], ["ae1027a6acf", "1975ea83b712"]])
async def test_another_programs_revision_is_no_other_version(place: Place, there: list[str]) -> None:
    """Alembic serves other programs as well: their revisions may look like ours, and they may have several."""
    await place.sql("CREATE TABLE alembic_version (version_num varchar(32))")
    for revision in there:
        await place.sql(f"INSERT INTO alembic_version VALUES ('{revision}')")
    with pytest.raises(StoreUnusable, match="another program: alembic_version"):
        await open_store(place.url).open()


async def test_sqlite_tables_are_those_of_the_code_to_the_letter(store: Store, place: Place, tmp_path: Path) -> None:
    """The SQL statements are equal on SQLite, for clustered tables and partial indexes that no comparison sees."""
    if not isinstance(place, SqlitePlace):
        return
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version' ORDER BY name"
    migrated = await place.sql(query)
    engine = create_engine(f"sqlite:///{tmp_path}/made.db")
    schema.metadata.create_all(engine)
    engine.dispose()
    made = await SqlitePlace(tmp_path / "made.db").sql(query)
    assert [_plain(row) for row in migrated] == [_plain(row) for row in made]


async def test_every_store_has_its_indexes_in_the_same_order(sqlite_place: SqlitePlace) -> None:
    """SQLite chooses by it between two that are equally good; in another order, the same read may cost much more."""
    store = open_store(sqlite_place.url)
    await store.open()
    await store.close()
    query = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'runs' AND sql IS NOT NULL"
    names = [str(name) for (name,) in await sqlite_place.sql(f"{query} ORDER BY rowid")]
    assert len(names) > 5
    assert names == sorted(names)


def _plain(row: tuple[object, ...]) -> str:
    return " ".join(str(row).replace("\\n", " ").replace("\\t", " ").split())


def test_the_list_of_revisions_is_complete() -> None:
    """The revisions that are known without alembic are those that alembic finds."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [migrations.HEAD]
    assert tuple(r.revision for r in reversed(list(script.walk_revisions()))) == migrations.REVISIONS


def test_alembic_is_not_imported_at_the_head(tmp_path: Path) -> None:
    """Alembic is imported only for an old store."""
    program = (
        "import asyncio, sys\n"
        "from nomaflow_kernel.store.sql_store import open_store\n"
        "async def main():\n"
        "    store = open_store(sys.argv[1])\n"
        "    await store.open()\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
        "print('alembic' in sys.modules, 'asyncpg' in sys.modules, 'grpc' in sys.modules)\n"
    )
    command = [sys.executable, "-c", program, f"sqlite:///{tmp_path}/h.db"]
    outputs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)]
    assert outputs == ["False False False", "False False False"]
