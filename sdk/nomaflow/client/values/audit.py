"""Rows of the audit, and what a check of its chain finds."""

from __future__ import annotations

from datetime import datetime

from nomaflow.client.values.shapes import NullableCount, NullableText, Shaped

__all__ = ["AuditRowView", "AuditVerdictView"]


class AuditRowView(Shaped, frozen=True, kw_only=True):
    """One change or refusal.

    :param seq: rises by one from row to row
    :param principal: who did it; ``anyone`` if no credential was good
    :param action: the rpc's name
    :param outcome: ``ok``, or the reason of the refusal
    :param note: what the caller said about it
    :param correlation: the run, the error id or the trace that it belongs to
    :param count: how many similar ones the row stands for; more than one only for refusals
    :param hash: chains it to the row before: see ``nomaflow_api.audit_chain``
    """

    seq: int
    at: datetime
    principal: str
    address: str
    action: str
    target: str
    outcome: str
    note: str
    correlation: str
    count: int
    hash: str


class AuditVerdictView(Shaped, frozen=True, kw_only=True):
    """The result of computing the chain again.

    :param rows: how many rows were checked
    :param last_hash: the hash of the newest: the anchor, which is also in the kernel's log
    :param bad_seq: the first row that does not fit; 0 if all do
    :param problem: what is wrong with it
    """

    rows: int
    first_seq: int
    last_seq: int
    last_hash: NullableText
    bad_seq: NullableCount = 0
    problem: NullableText = ""
