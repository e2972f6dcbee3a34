"""The client's calls about the audit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict, Unpack

from nomaflow.client import values
from nomaflow.client.calls import Calls
from nomaflow.client.requests import filled
from nomaflow_api.v1 import access_service_pb2 as service
from nomaflow_api.v1.message_codec import decode


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditBlock:
    """Rows of the audit, in order.

    :param before_hash: the hash on which the first of them builds; empty for row 1, and if a filter left rows out
    """

    rows: tuple[values.AuditRowView, ...]
    before_hash: str


class AuditFilters(TypedDict, total=False):
    """Filters of rows of the audit; a key that is missing, or empty, keeps all.

    ``after_seq`` is the last row already seen; 0 means from the oldest that is kept. ``follow`` waits for more rows,
    without end. ``principal`` keeps rows of that principal, such as ``alice`` or ``host:teamb``, ``action`` those of
    that rpc, such as ``TriggerRun``, ``refused`` refusals, and ``since`` rows at or after it. ``tail`` keeps only the
    last rows of those stored now.
    """

    after_seq: int
    follow: bool
    principal: str
    action: str
    refused: bool
    since: datetime | None
    tail: int


class AuditReading(Calls):
    """Reads the audit, and checks it. Every call needs the verb admin."""

    async def read_audit_blocks(self, **filters: Unpack[AuditFilters]) -> AsyncIterator[AuditBlock]:
        """Yield the rows in blocks as they arrive; see :class:`AuditFilters`."""
        request = filled(service.ReadAuditRequest, **filters)
        async for message in self._connection.stream("ReadAudit", request):
            block = decode(AuditBlock, message)
            rows = tuple(row for row in block.rows if row.seq > request.after_seq)
            if rows:
                # If the kernel goes away, the stream continues from here.
                request.after_seq, request.tail = rows[-1].seq, 0
                yield AuditBlock(rows=rows, before_hash=block.before_hash)

    async def read_audit(self, **filters: Unpack[AuditFilters]) -> AsyncIterator[values.AuditRowView]:
        """Yield the rows of the audit in order; see :class:`AuditFilters`."""
        async for block in self.read_audit_blocks(**filters):
            for row in block.rows:
                yield row

    async def verify_audit(self) -> values.AuditVerdictView:
        """Compute the chain of the audit again and return what was found."""
        return decode(values.AuditVerdictView, await self._ask("VerifyAudit"))
