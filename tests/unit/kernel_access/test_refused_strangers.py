"""Refused calls of those who have no credential: they may be as many as strangers like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.policy import RULES
from nomaflow_kernel.access.principals import ANYONE, Caller, Principal, PrincipalKind
from nomaflow_kernel.domain.clock import SystemClock
from nomaflow_kernel.history.access_records import AuditRecord


class Rows:
    """A store that keeps the rows of the audit."""

    def __init__(self) -> None:
        self.rows: list[AuditRecord] = []

    async def append_audit(self, rows: Sequence[AuditRecord]) -> None:
        """Keep rows."""
        self.rows += rows


async def test_strangers_fill_neither_the_audit_nor_the_kinds_of_others() -> None:
    """Each of their calls is counted, in 34 rows a minute at most, and a known caller is still told apart."""
    store = Rows()
    audit = AuditLog(store=cast("Any", store), clock=SystemClock())
    for number in range(300):
        for method in list(RULES)[:2]:
            audit.refused(method, None, "UNAUTHENTICATED", Caller(principal=ANYONE, peer=f"ipv4:10.0.0.{number}:9"))
    ann = Principal(kind=PrincipalKind.USER, name="ann")
    audit.refused(next(iter(RULES)), None, "PERMISSION_DENIED", Caller(principal=ann, peer="ipv4:10.1.0.1:9"))
    await audit.stop()
    of_strangers = [row for row in store.rows if row.principal == "anyone"]
    assert len(of_strangers) == 18
    assert sum(row.count for row in of_strangers) == 600
    assert of_strangers[0].address == "ipv4:10.0.0.0"
    (of_ann,) = (row for row in store.rows if row.principal == "ann")
    assert of_ann.address == "ipv4:10.1.0.1"
