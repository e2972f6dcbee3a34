"""The audit: rows that are only appended, each chained to the one before by its hash."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, Select, delete, func, select
from sqlalchemy import update as sql_update

from nomaflow_api.audit_chain import row_hash
from nomaflow_kernel.history.access_records import AuditEnds, AuditFilter, AuditRecord, AuditVerdict
from nomaflow_kernel.store import schema
from nomaflow_kernel.store.operations.conditions import equal, within
from nomaflow_kernel.store.rows import AUDIT
from nomaflow_kernel.store.session import WriteSession
from nomaflow_kernel.store.statements import insert

APPEND = insert(schema.audit, AUDIT.columns)
_KERNEL = schema.kernel.c
_ROW = schema.audit.c
_ENDS = select(_KERNEL.audit_seq, _KERNEL.audit_hash, _KERNEL.audit_pruned_seq, _KERNEL.audit_pruned_hash)


def append_audit(session: WriteSession, records: Sequence[AuditRecord]) -> None:
    """Append rows, in the order given; they are numbered and written at the end of the transaction."""
    session.audit += records


def chained(records: Sequence[AuditRecord], seq: int, digest: str) -> list[tuple[Any, ...]]:
    """Return the rows of records, numbered and chained to the row before them.

    :param seq: the number of that row
    :param digest: its hash
    """
    rows = []
    for record in records:
        seq += 1
        _, *facts, _ = AUDIT.values(record)  # as they read back: texts are cleaned
        digest = row_hash(digest, (seq, *facts))
        rows.append((seq, *facts, digest))
    return rows


def audit_ends(connection: Connection) -> AuditEnds:
    """Return both ends of the chain, as the kernel's row has them."""
    seq, digest, pruned_seq, pruned_hash = connection.execute(_ENDS).one()
    return AuditEnds(seq=seq, hash=digest, pruned_seq=pruned_seq, pruned_hash=pruned_hash)


def audit_rows(connection: Connection, after_seq: int, *, filter: AuditFilter, limit: int) -> list[AuditRecord]:
    """Return rows with a greater number, in order."""
    query = _filtered(filter).where(_ROW.seq > after_seq).order_by(_ROW.seq).limit(limit)
    return [AUDIT.record(row) for row in connection.execute(query)]


def audit_tail(connection: Connection, *, filter: AuditFilter, limit: int) -> list[AuditRecord]:
    """Return the newest rows, in order."""
    query = _filtered(filter).order_by(_ROW.seq.desc()).limit(limit)
    return [AUDIT.record(row) for row in connection.execute(query)][::-1]


def verify_page(connection: Connection, verdict: AuditVerdict | None, *, limit: int) -> tuple[AuditVerdict, bool]:
    """Check the next rows of the chain; return the verdict so far, and whether that was all.

    :param verdict: that of the page before; None for the first
    """
    ends = audit_ends(connection)
    if verdict is None or verdict.last_seq < ends.pruned_seq:  # retention may have removed rows since the last page
        rows = 0 if verdict is None else verdict.rows
        first_seq = ends.pruned_seq + 1 if verdict is None else verdict.first_seq
        verdict = AuditVerdict(rows=rows, first_seq=first_seq, last_seq=ends.pruned_seq, last_hash=ends.pruned_hash)
    below = connection.execute(select(func.min(_ROW.seq)).where(_ROW.seq <= ends.pruned_seq)).scalar_one()
    if below is not None:
        return replace(verdict, bad_seq=below, problem=f"row {below} is older than the oldest that is kept"), True
    page = select(schema.audit).where(_ROW.seq > verdict.last_seq).order_by(_ROW.seq).limit(limit)
    rows_read = connection.execute(page).fetchall()
    for seq, *facts, digest in rows_read:
        problem = _problem(seq, facts, digest, verdict, ends)
        if problem:
            return replace(verdict, bad_seq=verdict.last_seq + 1, problem=problem), True
        verdict = replace(verdict, rows=verdict.rows + 1, last_seq=seq, last_hash=digest)
    if len(rows_read) == limit:
        return verdict, False
    if verdict.last_seq < ends.seq:
        problem = f"the chain ends at row {verdict.last_seq}, and the newest row written is {ends.seq}"
        return replace(verdict, bad_seq=verdict.last_seq + 1, problem=problem), True
    if verdict.last_hash != ends.hash:
        problem = f"row {verdict.last_seq} is not the one that the kernel has written"
        return replace(verdict, bad_seq=verdict.last_seq, problem=problem), True
    return verdict, True


def _problem(seq: int, facts: Sequence[str | int], digest: str, before: AuditVerdict, ends: AuditEnds) -> str:
    """Return what is wrong with a row that is read after those of a verdict; empty if nothing is."""
    expected = before.last_seq + 1
    if seq != expected:
        return f"row {expected} is missing"
    if seq > ends.seq:
        return f"no kernel has written row {seq}: the newest is {ends.seq}"
    if digest != row_hash(before.last_hash, (seq, *facts)):
        return f"the hash of row {seq} does not fit its content and the row before"
    return ""


def prune_audit(connection: Connection, *, before_us: int, limit: int) -> int:
    """Delete the oldest rows older than an instant, and keep the hash on which the next row builds."""
    oldest = select(_ROW.seq, _ROW.hash, _ROW.at_us).order_by(_ROW.seq).limit(limit)
    gone = list(takewhile(lambda row: row.at_us < before_us, connection.execute(oldest)))
    if gone:
        last = gone[-1]
        connection.execute(delete(schema.audit).where(_ROW.seq <= last.seq))
        connection.execute(sql_update(schema.kernel).values(audit_pruned_seq=last.seq, audit_pruned_hash=last.hash))
    return len(gone)


def _filtered(filter: AuditFilter) -> Select[tuple[object, ...]]:
    kept = equal((_ROW.principal, filter.principal), (_ROW.action, filter.action))
    if filter.refused:
        kept.append(_ROW.outcome != "ok")
    return select(schema.audit).where(*kept, *within(_ROW.at_us, filter.since_us, None))
