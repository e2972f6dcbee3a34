"""A plain function, which has a worker process to itself while it runs."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import text

from nomaflow import ConnectorRegistry, RunContext


def audit(*, connectors: ConnectorRegistry, ctx: RunContext, **_: Any) -> dict[str, Any]:
    """Count the remaining rows, and report the result of the previous step."""
    with connectors.pools.sync_engine("reporting").connect() as conn:
        sessions = conn.execute(text("SELECT COUNT(*) FROM sessions")).scalar_one()
        revenue = conn.execute(text("SELECT SUM(revenue) FROM monthly_summary")).scalar_one()
    print(f"{sessions} sessions are left, {revenue:,.2f} of revenue last month")
    ctx.log.info("the step before touched %s rows; this is pid %d", ctx.prev_rows_affected, os.getpid())
    return {"sessions": sessions, "revenue": round(revenue, 2)}
