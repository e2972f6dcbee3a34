# plugins/myapp/cleanup.py
import logging
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

_log = logging.getLogger(__name__)


async def purge_old_sessions(
    *,  # kwargs-only signature is the convention
    connectors,  # auto-injected
    ctx,  # auto-injected
    apps_id: int,  # from op_kwargs
    max_age_days: int = 30,  # from op_kwargs, with default
    **_,  # swallow the rest
) -> dict:
    cutoff = datetime.now(UTC) - timedelta(days=max_age_days)
    _log.info("purge sessions · tenant=%d · older than %s · run_id=%s", apps_id, cutoff.date(), ctx.run_id)
    async with connectors.pools.engine("default").begin() as conn:
        result = await conn.execute(
            text("DELETE FROM sessions WHERE apps_id = :apps_id AND last_seen < :cutoff"),
            {"apps_id": apps_id, "cutoff": cutoff.isoformat()},
        )
    deleted = result.rowcount
    _log.info("purged %d sessions · run_id=%s", deleted, ctx.run_id)
    return {"rows_affected": deleted, "tenant": apps_id, "cutoff": cutoff.date().isoformat()}
