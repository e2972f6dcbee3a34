"""A tiny step for a job with a cron schedule."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import text

from nomaflow import ConnectorRegistry, RunContext

_log = logging.getLogger(__name__)


async def beat(*, connectors: ConnectorRegistry, ctx: RunContext, **_: Any) -> dict[str, Any]:
    """Write one row and count them."""
    async with connectors.pools.engine("default").begin() as conn:
        await conn.execute(text("CREATE TABLE IF NOT EXISTS heartbeats (run_id TEXT PRIMARY KEY)"))
        await conn.execute(text("INSERT INTO heartbeats VALUES (:run_id)"), {"run_id": ctx.run_id})
        beats = (await conn.execute(text("SELECT COUNT(*) FROM heartbeats"))).scalar_one()
    _log.info("beat %d · fired by %s", beats, ctx.trigger.kind)
    return {"rows_affected": 1, "beats": beats}
