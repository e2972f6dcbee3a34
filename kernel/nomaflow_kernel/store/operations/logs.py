"""Reading log chunks."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from nomaflow_kernel.history.port import LogPage
from nomaflow_kernel.store.rows import CHUNKS
from nomaflow_kernel.store.schema import log_chunks

__all__ = ["log_page"]

_HIGHEST_LEVEL_BIT = 6


def log_page(
    connection: Connection, run_id: str, *, after_seq: int, limit: int, step: str = "", min_level: int = 0
) -> LogPage:
    """Return chunks with lines after ``after_seq``; a chunk without the step or the level is skipped unread."""
    of_run = log_chunks.c.run_id == run_id
    first = (
        select(func.max(log_chunks.c.first_seq))
        .where(of_run, log_chunks.c.first_seq <= after_seq + 1)
        .scalar_subquery()
    )
    query = (
        select(log_chunks)
        .where(
            of_run,
            log_chunks.c.first_seq >= func.coalesce(first, 0),
            log_chunks.c.first_seq + log_chunks.c.line_count > after_seq + 1,
        )
        .order_by(log_chunks.c.first_seq)
        .limit(limit + 1)
    )
    if step:
        query = query.where(log_chunks.c.step == step)
    if min_level > 0:
        query = query.where(log_chunks.c.levels.op("&")(_mask(min_level)) != 0)
    found = [CHUNKS.record(row) for row in connection.execute(query)]
    return LogPage(chunks=found[:limit], more=len(found) > limit)


def _mask(min_level: int) -> int:
    """Return the bits of all levels that may include ``min_level`` or higher: bit n is levels 10·n to 10·n+9."""
    lowest = min(min_level // 10, _HIGHEST_LEVEL_BIT)
    return sum(1 << bit for bit in range(lowest, _HIGHEST_LEVEL_BIT + 1))
