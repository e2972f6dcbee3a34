"""Pools of connectors.toml on a real PostgreSQL, with the page's worked example as printed."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import sys
from typing import TYPE_CHECKING

import asyncpg
import pytest
import sqlalchemy

from author_page import MONTHLY
from nomaflow import RunContext
from nomaflow.testing import connectors_from, run_callable
from nomaflow_host.compat import install_liberty_aliases
from postgres_server import SUPERUSER, PostgresServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.postgres

TABLES = (
    "DROP TABLE IF EXISTS monthly_summary, invoices",
    "CREATE TABLE monthly_summary (apps_id INTEGER, period TEXT, revenue NUMERIC, invoice_count BIGINT)",
    "CREATE TABLE invoices (apps_id INTEGER, total NUMERIC, invoice_date DATE)",
)


@pytest.fixture
def connectors_toml(postgres_server: PostgresServer, tmp_path: Path) -> Path:
    """Write a connectors.toml with one PostgreSQL pool and a connector of named queries on it."""
    file = tmp_path / "connectors.toml"
    file.write_text(
        f'[pools.reporting]\nurl = "postgresql://{SUPERUSER}@/postgres?host={postgres_server.folder}"\n'
        'password = "${PG_PASSWORD}"\npool_size = 2\npool_pre_ping = true\n'
        '[connectors.sums]\ntype = "sql"\npool = "reporting"\n'
        'queries = { total = "SELECT sum(invoice_count) FROM monthly_summary WHERE apps_id = :apps_id" }\n'
    )
    return file


async def test_worked_example_as_printed(
    connectors_toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The page's example runs with its SQL as printed, async; the sync engine and named queries see its row."""
    caplog.set_level(logging.DEBUG)
    install_liberty_aliases()
    (tmp_path / "page_monthly_pg.py").write_text(MONTHLY)
    monkeypatch.syspath_prepend(tmp_path)
    last_month = dt.date.today().replace(day=1) - dt.timedelta(days=1)  # noqa: DTZ011 - as the page counts it
    registry = connectors_from(connectors_toml, {"PG_PASSWORD": "hunter2"})
    try:
        async with registry.pools.engine("reporting").begin() as connection:
            for statement in TABLES:
                await connection.execute(sqlalchemy.text(statement))
            await connection.execute(
                sqlalchemy.text("INSERT INTO invoices VALUES (10, :total, :day)"),
                [{"total": n, "day": last_month} for n in range(1, 101)],
            )
        outcome = await run_callable(
            "page_monthly_pg:generate_monthly_summary",
            op_kwargs={"apps_id": 10, "target_table": "monthly_summary"},
            connectors=registry,
            ctx=RunContext(run_id="run_1"),
        )
        assert (outcome.state, outcome.error, outcome.rows_affected) == ("SUCCEEDED", "", 1)
        with registry.pools.sync_engine("reporting").connect() as plain:
            row = plain.execute(sqlalchemy.text("SELECT revenue, invoice_count FROM monthly_summary")).one()
        assert (int(row[0]), row[1]) == (5050, 100)
        assert await registry.sql("sums").fetch_value("total", apps_id=10) == 100
    finally:
        await registry.aclose()
        sys.modules.pop("page_monthly_pg", None)
    assert "hunter2" not in caplog.text


async def test_closing_leaves_no_connection(connectors_toml: Path, postgres_server: PostgresServer) -> None:
    """The server has no session of the pools after aclose, and no error holds the password."""
    registry = connectors_from(connectors_toml, {"PG_PASSWORD": "hunter2"})
    async with registry.pools.engine("reporting").connect() as connection:
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
            await connection.execute(sqlalchemy.text("SELECT no_such_column"))
    assert "hunter2" not in str(caught.value)
    with registry.pools.sync_engine("reporting").connect() as plain:
        plain.execute(sqlalchemy.text("SELECT 1"))
    await registry.aclose()
    watcher = await asyncpg.connect(user=SUPERUSER, host=str(postgres_server.folder), database="postgres")
    try:
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        for _ in range(500):
            if await watcher.fetchval(others + " AND datname = 'postgres'") == 0:
                break
            await watcher.execute("SELECT pg_sleep(0.01)")
        else:
            pytest.fail("a session of the closed pools is still there")
    finally:
        await watcher.close()


async def test_loops_of_their_own(connectors_toml: Path) -> None:
    """A sync step that runs coroutines on a loop of its own, again and again, shares no connection with others."""
    registry = connectors_from(connectors_toml, {"PG_PASSWORD": "hunter2"})

    async def one() -> int:
        async with registry.pools.engine("reporting").connect() as connection:
            return int((await connection.execute(sqlalchemy.text("SELECT 1"))).scalar_one())

    def loops() -> int:
        engine = registry.pools.engine("reporting")  # before any loop, as scripts do

        async def early() -> None:
            async with engine.connect() as connection:
                await connection.execute(sqlalchemy.text("SELECT 1"))

        asyncio.run(early())
        return sum(asyncio.run(one()) for _ in range(3))

    try:
        assert await one() == 1
        assert await asyncio.to_thread(loops) == 3
        assert await asyncio.to_thread(loops) == 3
        assert await one() == 1
    finally:
        await registry.aclose()
