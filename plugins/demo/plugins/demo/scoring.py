"""A slow step, so that there is something to watch."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from sqlalchemy import text

from nomaflow import ConnectorRegistry, RunContext

_log = logging.getLogger(__name__)

_HIGH_RISK = 0.8


async def score_invoices(
    *,
    connectors: ConnectorRegistry,
    ctx: RunContext,
    batch_size: int = 100,
    pause_seconds: float = 0.2,
    **_: Any,
) -> dict[str, Any]:
    """Compute a risk for every invoice from its total, batch by batch, with progress."""
    engine = connectors.pools.engine("default")
    async with engine.connect() as conn:
        ids = list((await conn.execute(text("SELECT id FROM invoices ORDER BY id"))).scalars())
    batches = [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)]
    scored = 0
    for number, batch in enumerate(batches, start=1):
        async with engine.begin() as conn:
            result = await conn.execute(
                text("UPDATE invoices SET risk = total / 900.0 WHERE id BETWEEN :first AND :last"),
                {"first": batch[0], "last": batch[-1]},
            )
        scored += result.rowcount
        _log.info("batch %d of %d · invoices %d to %d", number, len(batches), batch[0], batch[-1])
        ctx.progress(scored, len(ids), f"batch {number} of {len(batches)}")
        await asyncio.sleep(pause_seconds)
    async with engine.connect() as conn:
        query = text("SELECT COUNT(*) FROM invoices WHERE risk > :limit")
        high = (await conn.execute(query, {"limit": _HIGH_RISK})).scalar_one()
    if high:
        _log.warning("%d invoices are of high risk", high)
    return {"rows_affected": scored, "batches": len(batches), "high_risk": high}
