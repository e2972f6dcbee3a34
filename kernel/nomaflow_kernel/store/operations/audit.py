"""The audit: rows that are only appended, each chained to the one before by its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, Select, delete, func, select
from sqlalchemy import update as sql_update

from nomaflow_kernel.history.access_records import AuditFilter, AuditRecord, AuditVerdict
from nomaflow_kernel.store import schema
from nomaflow_kernel.store.rows import AUDIT, dump_json
from nomaflow_kernel.store.session import WriteSession
from nomaflow_kernel.store.statements import insert

__all__ = ["append_audit", "audit_rows", "audit_tail", "chained", "prune_audit", "verify_page"]

_APPEND = insert(schema.audit, AUDIT.columns)
_KERNEL = schema.kernel.c
_ROW = schema.audit.c


def chained(record: AuditRecord, *, seq: int, before: str) -> AuditRecord:
    """Return a row with its number and its hash, which covers the hash before and every other field."""
    facts = [
        seq,
        record.at_us,
        record.principal,
        record.address,
        record.action,
        record.target,
        record.outcome,
        record.note,
        record.correlation,
        record.count,
    ]
    digest = hashlib.sha256(f"{before}\n{dump_json(facts)}".encode()).hexdigest()
    return replace(record, seq=seq, hash=digest)


def append_audit(session: WriteSession, records: Sequence[AuditRecord]) -> None:
    """Append rows, numbered and chained in the order given."""
    connection = session.connection
    seq, before = connection.execute(select(_KERNEL.audit_seq, _KERNEL.audit_hash)).one()
    rows = []
    for record in records:
        # As the row reads back: the texts are cleaned on their way in.
        row = chained(AUDIT.record(AUDIT.values(record)), seq=seq + 1, before=before)
        seq, before = row.seq, row.hash
        rows.append(AUDIT.values(row))
    _APPEND.execute(connection, rows)
    connection.execute(sql_update(schema.kernel).values(audit_seq=seq, audit_hash=before))


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
    last_seq, last_hash, pruned_seq, pruned_hash = connection.execute(
        select(_KERNEL.audit_seq, _KERNEL.audit_hash, _KERNEL.audit_pruned_seq, _KERNEL.audit_pruned_hash)
    ).one()
    if verdict is None:
        verdict = AuditVerdict(rows=0, first_seq=pruned_seq + 1, last_seq=pruned_seq, last_hash=pruned_hash)
    page = select(schema.audit).where(_ROW.seq > verdict.last_seq).order_by(_ROW.seq).limit(limit)
    rows = [AUDIT.record(row) for row in connection.execute(page)]
    for row in rows:
        if row.seq != verdict.last_seq + 1:
            problem = f"row {verdict.last_seq + 1} is missing"
            return replace(verdict, bad_seq=verdict.last_seq + 1, problem=problem), True
        if row.hash != chained(row, seq=row.seq, before=verdict.last_hash).hash:
            problem = f"the hash of row {row.seq} does not fit its content and the row before"
            return replace(verdict, bad_seq=row.seq, problem=problem), True
        verdict = replace(verdict, rows=verdict.rows + 1, last_seq=row.seq, last_hash=row.hash)
    if len(rows) == limit:
        return verdict, False
    if verdict.last_seq < last_seq or verdict.last_hash != last_hash:
        missing = min(verdict.last_seq + 1, last_seq)
        problem = f"the chain ends at row {verdict.last_seq}, and the newest row written was {last_seq}"
        return replace(verdict, bad_seq=missing, problem=problem), True
    return verdict, True


def prune_audit(connection: Connection, *, before_us: int, limit: int) -> int:
    """Delete the oldest rows older than an instant, and keep the hash that the next row builds on."""
    oldest = select(_ROW.seq, _ROW.hash, _ROW.at_us).order_by(_ROW.seq).limit(limit)
    gone = 0
    last_seq, last_hash = 0, ""
    for seq, digest, at_us in connection.execute(oldest):
        if at_us >= before_us:
            break
        gone, last_seq, last_hash = gone + 1, seq, digest
    if gone:
        connection.execute(delete(schema.audit).where(_ROW.seq <= last_seq))
        connection.execute(sql_update(schema.kernel).values(audit_pruned_seq=last_seq, audit_pruned_hash=last_hash))
    return gone


def _filtered(filter: AuditFilter) -> Select[tuple[object, ...]]:
    query = select(schema.audit)
    if filter.principal:
        query = query.where(_ROW.principal == filter.principal)
    if filter.action:
        query = query.where(func.lower(_ROW.action) == filter.action.lower())
    if filter.refused:
        query = query.where(_ROW.outcome != "ok")
    if filter.since_us is not None:
        query = query.where(_ROW.at_us >= filter.since_us)
    return query
