"""Reading the audit over gRPC: in blocks, filtered, followed, and checked."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest
from rpc_world import World

from nomaflow_api.audit_chain import CHAINED_FIELDS, row_hash
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from nomaflow_kernel.history.access_records import AuditRecord
from waiting import eventually

T0 = 1_700_000_000_000_000


@pytest.fixture
def audit(world: World) -> Any:
    """Return a stub."""
    return AccessServiceStub(world.channel)


async def append(world: World, count: int, **fields: Any) -> None:
    """Append rows."""
    plain = {"principal": "owner", "address": "unix:", "action": "Pause", "target": "*", "outcome": "ok"}
    await world.store.append_audit([AuditRecord(at_us=T0 + n, **{**plain, **fields}) for n in range(count)])


async def read(audit: Any, **request: Any) -> list[access.AuditRow]:
    """Return the rows of a call that does not follow."""
    return [row async for block in audit.ReadAudit(access.ReadAuditRequest(**request)) for row in block.rows]


async def test_rows_come_in_order_in_blocks(world: World, audit: Any) -> None:
    """1,200 rows come in a few messages; each block says which hash it builds on, so that it can be verified alone."""
    await append(world, 1200)
    blocks = [block async for block in audit.ReadAudit(access.ReadAuditRequest())]
    assert [len(block.rows) for block in blocks] == [500, 500, 200]
    for block in blocks:
        before = block.before_hash
        for row in block.rows:
            facts: dict[str, Any] = {name: getattr(row, name, None) for name in CHAINED_FIELDS} | {
                "at_us": row.at.ToMicroseconds()
            }
            assert row.hash == row_hash(before, [facts[name] for name in CHAINED_FIELDS])
            before = row.hash
    (later,) = [block async for block in audit.ReadAudit(access.ReadAuditRequest(after_seq=1199))]
    assert (later.rows[0].seq, later.before_hash) == (1200, blocks[-1].rows[-2].hash)
    await world.store.prune_audit(before_us=T0 + 700, limit=10_000)
    first = await anext(aiter(audit.ReadAudit(access.ReadAuditRequest())))
    assert (first.rows[0].seq, first.before_hash) == (701, blocks[1].rows[199].hash)


async def test_filters_and_tail(world: World, audit: Any) -> None:
    """Return rows by principal, action, time and refusal, or the last of them; refuse an action that does not exist."""
    await append(world, 5)
    await append(world, 3, principal="anna", action="Resume", outcome="PERMISSION_DENIED")
    assert [row.seq for row in await read(audit, tail=2)] == [7, 8]
    assert [row.seq for row in await read(audit, principal="anna", tail=2)] == [7, 8]
    assert [row.seq for row in await read(audit, action="pause")] == [1, 2, 3, 4, 5]
    assert [row.seq for row in await read(audit, refused=True)] == [6, 7, 8]
    request = access.ReadAuditRequest(principal="owner")
    request.since.FromMicroseconds(T0 + 3)
    assert [row.seq async for block in audit.ReadAudit(request) for row in block.rows] == [4, 5]
    with pytest.raises(grpc.aio.AioRpcError, match="at most 10000"):
        await read(audit, tail=10_001)
    with pytest.raises(grpc.aio.AioRpcError, match="no action 'Resum'; did you mean 'Resume'") as caught:
        await read(audit, action="Resum")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_following_misses_nothing(world: World, audit: Any) -> None:
    """A stream that follows sends what is written later, once each and in order, and only what matches."""
    await append(world, 3, principal="anna")
    seen: list[int] = []

    async def follow(**request: Any) -> None:
        async for block in audit.ReadAudit(access.ReadAuditRequest(follow=True, principal="anna", **request)):
            seen.extend(row.seq for row in block.rows)

    following = asyncio.create_task(follow(tail=1))
    await eventually(lambda: seen == [3])
    for _ in range(5):
        await append(world, 2, principal="ben")
        await append(world, 1, principal="anna")
    await eventually(lambda: len(seen) == 6)
    assert seen == [3, 6, 9, 12, 15, 18]
    world.feed.close()
    with pytest.raises(grpc.aio.AioRpcError, match="stopping"):
        await following


async def test_verify(world: World, audit: Any) -> None:
    """The whole chain is computed again, in pages; the newest hash is told."""
    await append(world, 2500)
    found = await audit.VerifyAudit(access.VerifyAuditRequest())
    ends = await world.store.audit_ends()
    assert (found.rows, found.first_seq, found.last_seq, found.last_hash) == (2500, 1, 2500, ends.hash)
    assert (found.bad_seq, found.problem) == (0, "")


@pytest.mark.parametrize("rest", [{"follow": True}, {"tail": 5}, {"principal": "owner"}])
async def test_a_cursor_of_another_store_is_refused(world: World, audit: Any, rest: dict[str, Any]) -> None:
    """A follower that kept it would miss every row up to it. The newest row itself is no such cursor."""
    await append(world, 3)
    assert await read(audit, after_seq=3) == []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(audit, after_seq=4, **rest)
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert "the store's newest row of the audit is 3" in (caught.value.details() or "")
    await world.store.prune_audit(before_us=T0 + 10_000, limit=10_000)
    assert await read(audit, after_seq=3) == []
