"""Session callables: create sessions, and remove old ones."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from nomaflow import ConnectorRegistry, RunContext

_log = logging.getLogger(__name__)


async def fill_sessions(*, connectors: ConnectorRegistry, count: int = 100, **_: Any) -> dict[str, Any]:
    """Write ``count`` sessions of the last hundred days."""
    now = datetime.now(UTC)
    rows = [{"seen": (now - timedelta(days=number % 100)).isoformat()} for number in range(count)]
    async with connectors.pools.engine("default").begin() as conn:
        await conn.execute(text("CREATE TABLE IF NOT EXISTS sessions (id INTEGER PRIMARY KEY, last_seen TEXT)"))
        await conn.execute(text("INSERT INTO sessions (last_seen) VALUES (:seen)"), rows)
    _log.info("wrote %d sessions", count)
    return {"rows_affected": count}


async def purge_old_sessions(
    *, connectors: ConnectorRegistry, ctx: RunContext, max_age_days: int = 30, **_: Any
) -> dict[str, Any]:
    """Remove sessions that have not been seen for ``max_age_days``."""
    cutoff = datetime.now(UTC) - timedelta(days=max_age_days)
    _log.info("purging sessions older than %s · run_id=%s", cutoff.date(), ctx.run_id)
    async with connectors.pools.engine("default").begin() as conn:
        result = await conn.execute(
            text("DELETE FROM sessions WHERE last_seen < :cutoff"), {"cutoff": cutoff.isoformat()}
        )
    _log.info("removed %d sessions", result.rowcount)
    return {"rows_affected": result.rowcount, "cutoff": cutoff.date().isoformat()}
