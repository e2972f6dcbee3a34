"""Reading log chunks."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Connection, Select, cast, func, literal, select

from nomaflow_api.log_levels import LEVEL_BITS
from nomaflow_kernel.history.lookups import LogFilter, LogPage
from nomaflow_kernel.history.records import AttemptLogRecord, LogChunkRecord, LogHead
from nomaflow_kernel.store.operations.conditions import equal
from nomaflow_kernel.store.rows import CHUNKS
from nomaflow_kernel.store.schema import log_chunks

_CHUNKS = select(log_chunks)
# The length of a blob is read from the row's header, on both databases: the body stays on its pages.
_SIZE = func.length(log_chunks.c.body)
_HEAD = LogHead.__struct_fields__
_HEADS = select(*(_SIZE if name == "size_bytes" else log_chunks.c[name] for name in _HEAD))

_ATTEMPT_LOGS = select(
    log_chunks.c.step,
    log_chunks.c.attempt,
    func.min(log_chunks.c.first_seq),
    func.max(log_chunks.c.first_seq + log_chunks.c.line_count - 1),
    cast(func.sum(log_chunks.c.line_count), BigInteger),
    # There is no aggregate for OR that both databases have: each bit occurs if its greatest value is not 0.
    sum((func.max(log_chunks.c.levels.op("&")(1 << bit)) for bit in range(LEVEL_BITS)), literal(0)),
).group_by(log_chunks.c.step, log_chunks.c.attempt)


def log_page(
    connection: Connection, run_id: str, filter: LogFilter, *, limit: int, newest_first: bool = False
) -> LogPage[LogChunkRecord]:
    """Return chunks with lines of a range; a chunk that cannot match is skipped unread."""
    query = _of_run(_CHUNKS, run_id, filter).limit(limit + 1)
    query = query.order_by(log_chunks.c.first_seq.desc() if newest_first else log_chunks.c.first_seq)
    found = [CHUNKS.record(row) for row in connection.execute(query)]
    return LogPage(chunks=found[:limit], more=len(found) > limit)


def log_heads(connection: Connection, run_id: str, filter: LogFilter, *, limit: int) -> LogPage[LogHead]:
    """Return the heads of chunks with lines of a range, in order."""
    query = _of_run(_HEADS, run_id, filter).order_by(log_chunks.c.first_seq).limit(limit + 1)
    found = [LogHead(**dict(zip(_HEAD, row, strict=True))) for row in connection.execute(query)]
    return LogPage(chunks=found[:limit], more=len(found) > limit)


def attempt_logs(connection: Connection, run_id: str) -> dict[tuple[str, int], AttemptLogRecord]:
    """Return how much of the log of each attempt of a run is stored, by step and number of the try."""
    rows = connection.execute(_ATTEMPT_LOGS.where(log_chunks.c.run_id == run_id))
    return {
        (step, attempt): AttemptLogRecord(first_seq=first, last_seq=last, lines=lines, levels=levels)
        for step, attempt, first, last, lines, levels in rows
    }


def _of_run(query: Select[Any], run_id: str, filter: LogFilter) -> Select[Any]:
    of_run = log_chunks.c.run_id == run_id
    query = query.where(of_run, *equal((log_chunks.c.step, filter.step), (log_chunks.c.attempt, filter.attempt)))
    if filter.after_seq:
        # The chunk that holds the next line begins before it: its key is looked up, not searched for.
        before = select(log_chunks.c.first_seq).where(of_run, log_chunks.c.first_seq <= filter.after_seq + 1)
        first = before.order_by(log_chunks.c.first_seq.desc()).limit(1).scalar_subquery()
        query = query.where(
            log_chunks.c.first_seq >= func.coalesce(first, 0),
            log_chunks.c.first_seq + log_chunks.c.line_count > filter.after_seq + 1,
        )
    if filter.before_seq:
        query = query.where(log_chunks.c.first_seq < filter.before_seq)
    if filter.levels:
        query = query.where(log_chunks.c.levels.op("&")(filter.levels) != 0)
    return query
