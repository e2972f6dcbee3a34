"""The calls of AccessService that read the audit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from nomaflow_api.bounds import MOST_NUMBER
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1.message_codec import encode
from nomaflow_kernel.access.audit import ACTIONS
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.errors import CursorAhead, KernelStopping
from nomaflow_kernel.history.access_records import AuditFilter, AuditRecord
from nomaflow_kernel.rpc.parts import Calls
from nomaflow_kernel.rpc.requests import check_most, check_name, listed_names, moment_us

_PAGE = 500
_MAX_TAIL = 10_000
_LOOK_SECONDS = 0.5
"""How often a stream that follows looks for more rows."""


class AuditCalls(Calls):
    """Serves ReadAudit and VerifyAudit."""

    def read_audit(self, request: access.ReadAuditRequest, _caller: Caller) -> AsyncIterator[access.ReadAuditResponse]:
        """Yield the audit's rows in order, in blocks; with ``follow`` also those to come, without end.

        :raises CursorAhead: if the audit has no row as new as ``after_seq``
        """
        check_most(request.tail, _MAX_TAIL, "tail")
        check_name(request.principal, "principal")
        check_name(request.action, "action")
        asked = [request.action] if request.action else []
        filter = AuditFilter(
            principal=request.principal,
            action="".join(listed_names(asked, ACTIONS, noun="action", field="action", page="docs/grpc_api.md")),
            refused=request.refused,
            since_us=moment_us(request, "since"),
        )
        return self._read(request, filter)

    async def _read(
        self, request: access.ReadAuditRequest, filter: AuditFilter
    ) -> AsyncIterator[access.ReadAuditResponse]:
        cursor = min(request.after_seq, MOST_NUMBER)
        newest = (await self._store.audit_ends()).seq
        if cursor > newest:
            raise CursorAhead(cursor, newest, what="row of the audit")
        if request.tail:
            rows = await self._store.audit_tail(filter=filter, limit=request.tail)
            rows = [row for row in rows if row.seq > cursor]
            for first in range(0, len(rows), _PAGE):
                yield _response(rows[first : first + _PAGE])
            cursor = max([cursor, newest, *(row.seq for row in rows[-1:])])
        chained = filter == AuditFilter() and not request.tail
        before = await self._hash_before(cursor) if chained else ""
        while True:
            newest = (await self._store.audit_ends()).seq
            if newest > cursor:
                async for page in self._pages(cursor, filter):
                    cursor = page[-1].seq
                    yield _response(page, before)
                    before = page[-1].hash if chained else ""
                cursor = max(cursor, newest)  # rows that the filter leaves out are not looked at again
            if not request.follow:
                return
            if self._feed.closed:
                raise KernelStopping
            await asyncio.sleep(_LOOK_SECONDS)

    async def _hash_before(self, cursor: int) -> str:
        """Return the hash on which the row after a cursor builds."""
        if cursor:
            found = await self._store.audit_rows(cursor - 1, filter=AuditFilter(), limit=1)
            if found and found[0].seq == cursor:
                return found[0].hash
        return (await self._store.audit_ends()).pruned_hash

    async def _pages(self, cursor: int, filter: AuditFilter) -> AsyncIterator[Sequence[AuditRecord]]:
        """Yield the stored rows after a cursor, page by page, until there are no more."""
        while page := await self._store.audit_rows(cursor, filter=filter, limit=_PAGE):
            yield page
            cursor = page[-1].seq
            if len(page) < _PAGE:
                return

    async def verify_audit(self, _request: access.VerifyAuditRequest, _caller: Caller) -> access.VerifyAuditResponse:
        """Compute the chain again and return the first row that does not fit."""
        return encode(access.VerifyAuditResponse, await self._store.verify_audit())


def _response(rows: Sequence[AuditRecord], before_hash: str = "") -> access.ReadAuditResponse:
    return access.ReadAuditResponse(rows=[encode(access.AuditRow, row) for row in rows], before_hash=before_hash)
