"""Fills the demo's tables with the same data every time; only the dates move with today."""

from __future__ import annotations

import logging
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from nomaflow import ConnectorRegistry, RunContext

_log = logging.getLogger(__name__)

_SEED = 2026
_TENANTS = (10, 11, 12)
_PAGE = 500
_TABLES = (
    "DROP TABLE IF EXISTS sessions",
    "DROP TABLE IF EXISTS invoices",
    "DROP TABLE IF EXISTS monthly_summary",
    "CREATE TABLE sessions (id INTEGER PRIMARY KEY, apps_id INTEGER, last_seen TEXT)",
    "CREATE TABLE invoices (id INTEGER PRIMARY KEY, apps_id INTEGER, invoice_date TEXT, total REAL, risk REAL)",
    "CREATE TABLE monthly_summary (apps_id INTEGER, period TEXT, revenue REAL, invoice_count INTEGER)",
)


async def seed(
    *, connectors: ConnectorRegistry, ctx: RunContext, sessions: int = 4000, invoices: int = 3000, **_: Any
) -> dict[str, Any]:
    """Write sessions of the last 90 days and invoices of the last 60, of three tenants."""
    draw = random.Random(_SEED)
    now = datetime.now(UTC)
    session_rows = [
        {"tenant": draw.choice(_TENANTS), "seen": (now - timedelta(minutes=draw.randrange(90 * 1440))).isoformat()}
        for _number in range(sessions)
    ]
    invoice_rows = [
        {
            "tenant": draw.choice(_TENANTS),
            "day": (now - timedelta(days=draw.randrange(60))).date().isoformat(),
            "total": round(draw.uniform(5, 900), 2),
        }
        for _number in range(invoices)
    ]
    async with connectors.pools.engine("default").begin() as conn:
        for statement in _TABLES:
            await conn.execute(text(statement))
        await _insert(conn, "INSERT INTO sessions (apps_id, last_seen) VALUES (:tenant, :seen)", session_rows)
        ctx.progress(sessions, sessions + invoices, "sessions")
        await _insert(
            conn, "INSERT INTO invoices (apps_id, invoice_date, total) VALUES (:tenant, :day, :total)", invoice_rows
        )
        ctx.progress(sessions + invoices, sessions + invoices, "invoices")
    _log.info("wrote %d sessions and %d invoices", sessions, invoices)
    return {"rows_affected": sessions + invoices, "sessions": sessions, "invoices": invoices}


async def _insert(conn: Any, statement: str, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), _PAGE):
        await conn.execute(text(statement), rows[start : start + _PAGE])
