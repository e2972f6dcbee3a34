"""The client's calls about the audit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from nomaflow.client import values
from nomaflow.client.connection import Connection
from nomaflow_api.v1 import access_service_pb2 as service
from nomaflow_api.v1.message_codec import decode, timestamp

__all__ = ["AuditBlock", "AuditReading"]

_VERIFY_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditBlock:
    """Rows of the audit, in order.

    :param before_hash: the hash that the first of them builds on; empty for row 1, and where a filter left rows out
    """

    rows: tuple[values.AuditRowView, ...]
    before_hash: str


class AuditReading:
    """Reads the audit, and checks it. Every call needs the verb admin."""

    _connection: Connection

    async def read_audit_blocks(
        self,
        *,
        after_seq: int = 0,
        follow: bool = False,
        principal: str = "",
        action: str = "",
        refused: bool = False,
        since: datetime | None = None,
        tail: int = 0,
    ) -> AsyncIterator[AuditBlock]:
        """Yield the rows in blocks as they arrive; see :meth:`read_audit`."""
        request = service.ReadAuditRequest(
            after_seq=after_seq,
            follow=follow,
            principal=principal,
            action=action,
            refused=refused,
            since=timestamp(since) if since else None,
            tail=tail,
        )
        async for message in self._connection.stream("ReadAudit", request):
            block = decode(AuditBlock, message)
            rows = tuple(row for row in block.rows if row.seq > request.after_seq)
            if rows:
                # If the kernel goes away, the stream goes on from here.
                request.after_seq, request.tail = rows[-1].seq, 0
                yield AuditBlock(rows=rows, before_hash=block.before_hash)

    async def read_audit(
        self,
        *,
        after_seq: int = 0,
        follow: bool = False,
        principal: str = "",
        action: str = "",
        refused: bool = False,
        since: datetime | None = None,
        tail: int = 0,
    ) -> AsyncIterator[values.AuditRowView]:
        """Yield the rows of the audit in order.

        :param after_seq: the last row already seen; 0 means from the oldest that is kept
        :param follow: wait for more rows, without end
        :param principal: keeps rows of that principal, such as ``alice`` or ``host:teamb``
        :param action: keeps rows of that rpc, such as ``TriggerRun``
        :param refused: keeps refusals only
        :param since: keeps rows at or after it
        :param tail: keeps only the last rows of those stored now; 0 means all
        """
        blocks = self.read_audit_blocks(
            after_seq=after_seq,
            follow=follow,
            principal=principal,
            action=action,
            refused=refused,
            since=since,
            tail=tail,
        )
        async for block in blocks:
            for row in block.rows:
                yield row

    async def verify_audit(self) -> values.AuditVerdictView:
        """Compute the chain of the audit again and return what was found."""
        reply = await self._connection.call("VerifyAudit", service.VerifyAuditRequest(), timeout=_VERIFY_SECONDS)
        return decode(values.AuditVerdictView, reply)
