"""The examples of the author's page, with imports, signature and body as printed, on a real SQLite pool."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy

from author_page import CLEANUP, ERRORS, LOGGING, LOOP, MONTHLY
from nomaflow import ConnectorRegistry, RunContext
from nomaflow.testing import connectors_from, run_callable
from nomaflow_host.compat import install_liberty_aliases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the page's modules where they can be imported, and forget them afterwards."""
    install_liberty_aliases()
    for name, source in (
        ("page_cleanup", CLEANUP), ("page_loop", LOOP), ("page_errors", ERRORS), ("page_logging", LOGGING),
        ("page_monthly", MONTHLY),
    ):  # fmt: skip
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
async def reporting(tmp_path: Path) -> AsyncIterator[ConnectorRegistry]:
    """Give a real registry with the pool "reporting", on SQLite, which is taught DATE_TRUNC."""
    (tmp_path / "connectors.toml").write_text('[pools.reporting]\nurl = "sqlite:///reporting.db"\n')
    registry = connectors_from(tmp_path / "connectors.toml", {})
    engine = registry.pools.engine("reporting")

    @sqlalchemy.event.listens_for(engine.sync_engine, "connect")
    def teach(connection: Any, _: Any) -> None:
        connection.create_function("DATE_TRUNC", 2, lambda _, day: day[:8] + "01")

    last_month = dt.date.today().replace(day=1) - dt.timedelta(days=1)  # noqa: DTZ011 - as the page counts it
    async with engine.begin() as connection:
        for statement in (
            "CREATE TABLE monthly_summary (apps_id INTEGER, period TEXT, revenue REAL, invoice_count INTEGER)",
            "CREATE TABLE invoices (apps_id INTEGER, total REAL, invoice_date TEXT)",
        ):
            await connection.execute(sqlalchemy.text(statement))
        await connection.execute(
            sqlalchemy.text("INSERT INTO invoices VALUES (10, :total, :day)"),
            [{"total": float(n), "day": last_month.isoformat()} for n in range(1, 101)],
        )
    yield registry
    await registry.aclose()


async def test_minimal_and_realistic(page: Path, reporting: ConnectorRegistry) -> None:
    """Both signatures at the top of the page bind, with the injections and the op_kwargs they name."""
    outcome = await run_callable("page_cleanup:purge_old_sessions", op_kwargs={"anything": 1})
    assert (outcome.state, outcome.rows_affected, outcome.extras) == ("SUCCEEDED", 0, {})
    outcome = await run_callable(
        "page_cleanup:by_name",
        op_kwargs={"apps_id": 10, "other": 1},
        connectors=reporting,
        ctx=RunContext(run_id="run_a8c4d"),
    )
    assert outcome.extras == {"apps_id": 10, "max_age_days": 30, "run": "run_a8c4d", "pools": ["reporting"]}


@pytest.mark.filterwarnings("ignore:The default date adapter:DeprecationWarning")  # of sqlite3; the page has PostgreSQL
async def test_worked_example(page: Path, reporting: ConnectorRegistry) -> None:
    """The complete example runs, twice, replacing its own row, and logs what the page says."""
    for stale in (0, 1):
        outcome = await run_callable(
            "page_monthly:generate_monthly_summary",
            op_kwargs={"apps_id": 10, "target_table": "monthly_summary"},
            connectors=reporting,
            ctx=RunContext(run_id="run_1"),
        )
        assert (outcome.state, outcome.error, outcome.rows_affected) == ("SUCCEEDED", "", 1)
        assert outcome.extras["tenant"] == 10
        assert f"deleted {stale} stale rows · run_id=run_1" in outcome.logs
    with reporting.pools.sync_engine("reporting").connect() as connection:
        rows = connection.execute(sqlalchemy.text("SELECT apps_id, revenue, invoice_count FROM monthly_summary")).all()
    assert [tuple(row) for row in rows] == [(10, 5050.0, 100)]


async def test_loop(page: Path) -> None:
    """The cooperative loop of the page finishes by itself, and ends early when it is cancelled."""
    outcome = await run_callable("page_loop:long_loop", op_kwargs={"items": list(range(250))})
    assert outcome.extras == {"processed": 250}
    outcome = await run_callable("page_loop:long_loop", op_kwargs={"items": range(10**12)}, cancel_after=0.05)
    assert (outcome.state, outcome.reason_code) == ("CANCELED", "canceled_by_user")


async def test_errors(page: Path) -> None:
    """Both patterns end as the same failure, with the author's own words."""
    wrapped = await run_callable("page_errors:maybe_fail")
    explicit = await run_callable("page_errors:explicit")
    assert (wrapped.state, wrapped.error) == ("FAILED", "RuntimeError: no rows returned — upstream issue")
    assert (explicit.state, explicit.error) == ("FAILED", "no rows returned — check the upstream job")


async def test_logging(page: Path) -> None:
    """A module's logger is heard at INFO."""
    outcome = await run_callable("page_logging:my_function", ctx=RunContext(run_id="run_7"))
    assert outcome.logs == ["starting · run_id=run_7", "done · rows=3 · run_id=run_7"]
