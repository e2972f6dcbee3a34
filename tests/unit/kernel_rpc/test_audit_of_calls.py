"""The audit of calls over gRPC: refusals are counted, and an error of the kernel's own is found by its id."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from rpc_world import RUN_ID, World

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.reason_statuses import STATUS_KEY
from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.folded_rows import FoldedRows
from nomaflow_kernel.access.policy import RULES
from nomaflow_kernel.access.principals import ANYONE, Caller, NotPermitted, Principal, PrincipalKind
from nomaflow_kernel.domain.clock import SystemClock
from nomaflow_kernel.domain.errors import UnknownJob
from nomaflow_kernel.history.access_records import AuditFilter, AuditRecord
from nomaflow_kernel.rpc.failed_calls import status_of
from nomaflow_kernel.store.errors import StoreFull
from waiting import eventually

TRIGGER = "/nomaflow_api.v1.KernelService/TriggerRun"
ATTACH = "/nomaflow_api.v1.HostGatewayService/Attach"
READ = "/nomaflow_api.v1.KernelService/GetRun"


def stranger(address: str = "ipv4:10.0.0.9:4000") -> Caller:
    """Return a caller without a credential."""
    return Caller(principal=ANYONE, peer=address)


async def rows(world: World, **filter: Any) -> Sequence[AuditRecord]:
    """Return the audit."""
    return await world.store.audit_rows(0, filter=AuditFilter(**filter), limit=10_000)


async def test_bad_tokens_are_seen_at_once_and_cost_almost_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 2,000 bad tokens, each from another port, the first is in audit and log at once; the rest is a number."""
    with caplog.at_level(logging.WARNING, logger="nomaflow_kernel.access"):
        world.audit.refused(TRIGGER, None, "UNAUTHENTICATED", stranger())
        (first,) = await eventually(lambda: rows(world))
        assert (first.principal, first.address, first.action) == ("anyone", "ipv4:10.0.0.9", "TriggerRun")
        assert (first.outcome, first.count) == ("UNAUTHENTICATED", 1)
        for port in range(1999):
            world.audit.refused(TRIGGER, None, "UNAUTHENTICATED", stranger(f"ipv4:10.0.0.9:{port + 5000}"))
        await world.audit.stop()
    assert [row.count for row in await rows(world)] == [1, 1999]
    assert world.audit.refused_total == {"UNAUTHENTICATED": 2000}
    told = [record.getMessage() for record in caplog.records if record.name.startswith("nomaflow")]
    assert told == [
        "a call from ipv4:10.0.0.9 has no valid credential: TriggerRun",
        "1999 more calls like those were refused since then",
    ]


async def test_refusals_are_counted_by_the_minute(world: World) -> None:
    """After the time is up the number is written, and the next one like it is told at once again."""
    audit = AuditLog(store=world.store, clock=SystemClock(), fold_seconds=0.05)

    async def counted() -> bool:
        return len(await rows(world, refused=True)) == 2

    for _ in range(3):
        audit.refused(READ, kernel.GetRunRequest(run_id=RUN_ID), "PERMISSION_DENIED", stranger())
    await eventually(counted)
    audit.refused(READ, kernel.GetRunRequest(run_id=RUN_ID), "PERMISSION_DENIED", stranger())
    await audit.stop()
    assert [(row.target, row.count) for row in await rows(world, refused=True)] == [(RUN_ID, n) for n in (1, 2, 1)]


async def test_a_number_of_sessions_is_not_said_to_be_of_one_instance(world: World) -> None:
    """The row that counts has the note of none of them: each is of another instance, on another machine."""
    caller = Caller(principal=Principal(kind=PrincipalKind.HOST, name="team"), peer="ipv4:10.0.0.9:4000")
    for name in ("one", "two", "three"):
        world.audit.of_session("Attach", caller, target="host:team", note=f"instance {name}")
    await world.audit.stop()
    assert [(row.count, row.note) for row in await rows(world)] == [(1, "instance one"), (2, "")]


async def test_memory_is_bounded_whatever_is_refused() -> None:
    """20,000 refusals, each of another target, principal and address, keep 600 rows at most; none is left uncounted."""
    written: list[AuditRecord] = []
    refusals = FoldedRows(written.extend, seconds=60)
    audit = AuditLog(store=None, clock=SystemClock())
    audit._refusals = refusals
    for number in range(20_000):
        caller = Caller(
            principal=Principal(kind=PrincipalKind.USER, name=f"user{number}"), peer=f"ipv4:10.0.{number // 256}.1:1"
        )
        audit.refused(READ, kernel.GetRunRequest(run_id=f"run_{number}"), "PERMISSION_DENIED", caller)
    refusals.flush()
    assert len(written) < 600
    assert sum(row.count for row in written) == 20_000
    assert written[-1].principal == "(several)"


async def test_an_error_of_the_kernel_s_own_is_found_by_its_id(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The answer has an id and nothing of the error; log and audit have the same id, the log alone has the rest."""
    world.engine.trouble = RuntimeError("password=hunter2")
    ids = []
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.client.CancelRun(kernel.CancelRunRequest(run_id=RUN_ID), timeout=10)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "hunter2" not in f"{caught.value.details()}{caught.value.trailing_metadata()}"
        ids.append((caught.value.details() or "").split()[2].rstrip(":"))
    await world.audit.stop()
    kept = await rows(world, refused=True)
    assert [(row.action, row.target, row.outcome) for row in kept] == [("CancelRun", RUN_ID, "INTERNAL")] * 2
    assert [row.correlation for row in kept] == ids
    assert all(found in caplog.text for found in ids)
    assert "hunter2" not in str(kept)


async def test_what_would_change_something_is_told_when_it_fails(world: World) -> None:
    """A trigger of a job that does not exist is in the audit; reading a run that does not exist is not."""
    world.engine.trouble = UnknownJob("nothing")
    for call in (
        world.client.TriggerRun(kernel.TriggerRunRequest(job_id="nothing"), timeout=10),
        world.client.GetRun(kernel.GetRunRequest(run_id=RUN_ID), timeout=10),
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    await world.audit.stop()
    assert [(row.principal, row.target, row.outcome) for row in await rows(world)] == [
        ("owner", "job:nothing", "JOB_NOT_FOUND")
    ]


async def test_a_change_that_cannot_be_audited_is_not_acknowledged(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the row cannot be written, the caller gets an error and not an answer, and the log says what has happened."""

    async def full(_records: object) -> None:
        raise StoreFull("the disk is full")

    monkeypatch.setattr(world.store, "append_audit", full)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.Pause(kernel.PauseRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the audit cannot be written (the history store cannot grow" in caplog.text
    assert ": Pause '*' ok by owner from unix:" in caplog.text


async def test_a_refusal_that_cannot_be_written_is_in_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is away: who was refused what is in the log at least."""

    async def full(_records: object) -> None:
        raise StoreFull("the disk is full")

    monkeypatch.setattr(world.store, "append_audit", full)
    world.audit.refused(READ, kernel.GetRunRequest(run_id="run_\x1b[2J"), "PERMISSION_DENIED", stranger())
    await world.audit.stop()
    assert "GetRun 'run_\\x1b[2J' PERMISSION_DENIED by anyone from ipv4:10.0.0.9, 1 times" in caplog.text


async def test_a_caller_that_leaves_before_the_answer_is_told(world: World) -> None:
    """A change may be made although its caller hangs up first: the audit says that nobody was answered."""
    world.engine.hold = asyncio.Event()
    call = world.client.CancelRun(kernel.CancelRunRequest(run_id=RUN_ID), timeout=10)
    waiting = asyncio.ensure_future(call)
    await eventually(lambda: world.engine.held)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await eventually(lambda: world.audit.refused_total)
    world.engine.hold.set()
    await world.audit.stop()
    assert [(row.action, row.target, row.outcome) for row in await rows(world)] == [("CancelRun", RUN_ID, "CANCELLED")]


async def test_the_newest_hash_is_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The anchor is told at the start, so that whoever rewrites the whole chain cannot rewrite that."""
    await world.client.Pause(kernel.PauseRequest(), timeout=10)
    with caplog.at_level(logging.INFO, logger="nomaflow_kernel.access"):
        await world.audit.start()
        await eventually(lambda: "audit anchor" in caplog.text)
        await world.audit.stop()
    (row,) = await rows(world)
    assert f"audit anchor 1:{row.hash}" in caplog.text


async def test_without_an_audit_the_log_still_warns(caplog: pytest.LogCaptureFixture) -> None:
    """`[kernel.audit] enabled = false`, and a kernel that stands by: a refused credential is in the log."""
    audit = AuditLog(store=None, clock=SystemClock())
    await audit.start()
    audit.refused(TRIGGER, None, "UNAUTHENTICATED", stranger())
    await audit.stop()
    assert "a call from ipv4:10.0.0.9 has no valid credential" in caplog.text


async def test_refused_items_of_a_batch_are_told_by_job(world: World) -> None:
    """A batch is one call; each job of it that the caller may not start is a refusal of its own kind."""
    request = kernel.TriggerRunsRequest(requests=[kernel.TriggerRunRequest(job_id=each) for each in "abcb"])
    error = NotPermitted(stranger().principal, "trigger", "job:b")
    denied = kernel.TriggerRunsItem(status=dict(status_of(error).trailing)[STATUS_KEY])
    started = kernel.TriggerRunsItem(response=kernel.TriggerRunResponse(run_id=RUN_ID))
    method = "/nomaflow_api.v1.KernelService/TriggerRuns"
    call = world.audit.begin(method, RULES[method], request, stranger())
    assert call is not None
    await world.audit.done(call, kernel.TriggerRunsResponse(items=[started, denied, started, denied]), stranger())
    await world.audit.stop()
    assert [(row.action, row.target, row.count) for row in await rows(world)] == [("TriggerRuns", "job:b", 1)] * 2


async def test_a_refusal_names_what_a_host_claimed_to_be(world: World) -> None:
    """A host that attaches under another's name: the row says which name that was, though the request is a stream."""
    error = NotPermitted(stranger().principal, "attach as", "host:b")
    world.audit.refused(ATTACH, None, error.reason, stranger(), about=status_of(error).about)
    await world.audit.stop()
    assert [(row.action, row.target) for row in await rows(world)] == [("Attach", "host:b")]


async def test_a_host_that_comes_and_goes_fills_no_audit(world: World) -> None:
    """A storm of attaches is a row at once and a number; another host, and the same one from elsewhere, has its own."""

    def host(name: str, address: str) -> Caller:
        return Caller(principal=Principal(kind=PrincipalKind.HOST, name=name), peer=f"ipv4:{address}:4000")

    for number in range(500):
        for action in ("Attach", "Detach"):
            world.audit.of_session(action, host("a", "10.0.0.1"), target="host:a", note=f"instance {number}")
    world.audit.of_session("Attach", host("a", "10.0.0.2"), target="host:a")
    world.audit.of_session("Attach", host("b", "10.0.0.1"), target="host:b")
    await world.audit.stop()
    found = [(row.principal, row.address, row.action, row.count) for row in await rows(world)]
    assert found == [
        ("host:a", "ipv4:10.0.0.1", "Attach", 1),
        ("host:a", "ipv4:10.0.0.1", "Detach", 1),
        ("host:a", "ipv4:10.0.0.2", "Attach", 1),
        ("host:b", "ipv4:10.0.0.1", "Attach", 1),
        ("host:a", "ipv4:10.0.0.1", "Attach", 499),
        ("host:a", "ipv4:10.0.0.1", "Detach", 499),
    ]
    assert world.audit.refused_total == {}
