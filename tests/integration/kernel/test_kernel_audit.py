"""The audit of a real kernel: all that was acknowledged is in it, over kills and restarts, and it verifies."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from kernel_process import DEADLINE, KernelProcess, ScriptedHost

from cli_command import command_in
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_kernel.history.access_records import AuditVerdict
from nomaflow_kernel.store.sql_store import open_store
from real_system import free_ports
from waiting import eventually

Row = tuple[str, ...]


def rows(project: Path) -> list[Row]:
    """Return principal, action, target, outcome and correlation of every row."""
    with closing(sqlite3.connect(project / ".nomaflow" / "kernel.db")) as raw:
        return raw.execute("SELECT principal, action, target, outcome, correlation FROM audit ORDER BY seq").fetchall()


async def verdict(project: Path) -> AuditVerdict:
    """Check the chain of a stopped kernel."""
    store = open_store(f"sqlite:///{project}/.nomaflow/kernel.db")
    await store.open()
    try:
        return await store.verify_audit()
    finally:
        await store.close()


async def test_what_a_kernel_and_its_callers_do_is_in_the_audit(process: KernelProcess, host: ScriptedHost) -> None:
    """Start, sessions, manifests, calls and stop have their rows in order; the newest hash is in the kernel's log."""
    client = process.client()
    await host.attach(process.channel())
    run_id = (await client.TriggerRun(kernel.TriggerRunRequest(job_id="one", by="ann"), timeout=DEADLINE)).run_id
    await client.CancelRun(kernel.CancelRunRequest(run_id=run_id), timeout=DEADLINE)
    await client.Pause(kernel.PauseRequest(host="team"), timeout=DEADLINE)
    await client.Resume(kernel.ResumeRequest(host="team"), timeout=DEADLINE)
    other = ScriptedHost(name="other")
    await other.attach(process.channel())
    for bad in (kernel.ForgetHostRequest(host="team"), kernel.ForgetHostRequest(host="nobody")):
        with pytest.raises(grpc.aio.AioRpcError):
            await client.ForgetHost(bad, timeout=DEADLINE)
    await other.leave()
    await host.leave()
    await eventually(lambda: [row[1] for row in rows(process.project)].count("Detach") == 2)
    await client.ForgetHost(kernel.ForgetHostRequest(host="other"), timeout=DEADLINE)
    assert await process.stop() == 0
    told = [row[:4] for row in rows(process.project)]
    begin = [
        ("kernel", "StartKernel", "kernel", "ok"),
        ("owner", "Attach", "host:team", "ok"),
        ("owner", "IntroduceManifest", "host:team", "ok"),
        ("owner", "TriggerRun", "job:one", "ok"),
        ("owner", "CancelRun", run_id, "ok"),
        ("owner", "Pause", "host:team", "ok"),
        ("owner", "Resume", "host:team", "ok"),
        ("owner", "Attach", "host:other", "ok"),
        ("owner", "ClaimJobs", "job:broken, job:one, job:two", "JOB_DISABLED"),
        ("owner", "IntroduceManifest", "host:other", "ok"),
        ("owner", "ForgetHost", "host:team", "HOST_ATTACHED"),
        ("owner", "ForgetHost", "host:nobody", "HOST_NOT_FOUND"),
    ]
    assert told[: len(begin)] == begin
    assert sorted(told[len(begin) : -2]) == [("owner", "Detach", f"host:{name}", "ok") for name in ("other", "team")]
    assert told[-2] == ("owner", "ForgetHost", "host:other", "ok")
    assert told[-1] == ("kernel", "StopKernel", "kernel", "ok")
    assert (await verdict(process.project)).bad_seq == 0
    await process.start()
    await eventually(lambda: rows(process.project)[-1][:2] == ("kernel", "StartKernel"))
    assert re.search(r"audit anchor \d+:[0-9a-f]{64}", process.log)


async def test_a_withdrawal_that_holds_is_in_the_audit_whatever_the_answer(process: KernelProcess) -> None:
    """Its caller is told that a restore would undo it; the token is gone all the same."""
    stub: Any = AccessServiceStub(process.channel())
    order = access.CreateTokenRequest(kind=access.TOKEN_KIND_SERVICE, name="ci", roles=["viewer"])
    await stub.CreateToken(order, timeout=DEADLINE)
    (process.project / ".nomaflow" / "withdrawn").mkdir()
    with pytest.raises(grpc.aio.AioRpcError, match="it is withdrawn, but a restore of the history") as caught:
        await stub.RevokeTokens(access.RevokeTokensRequest(target="ci"), timeout=DEADLINE)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    await eventually(lambda: rows(process.project)[-1][:4] == ("owner", "RevokeTokens", "ci", "FILE_UNUSABLE"))


@pytest.mark.parametrize("by", ["calls", "messages", "batches"])
async def test_what_was_acknowledged_is_in_the_audit_after_a_kill(
    process: KernelProcess, host: ScriptedHost, by: str
) -> None:
    """After a kill under load, each acknowledged run is in the audit, what is in the audit is stored; the chain holds.

    Also for triggers that come together, with one among them that the store must be asked about before it is refused.
    """
    await host.attach(process.channel())
    client = process.client()
    acknowledged: list[str] = []

    async def call() -> None:
        answer = await client.TriggerRun(kernel.TriggerRunRequest(job_id="one"), timeout=DEADLINE)
        acknowledged.append(answer.run_id)

    def requests() -> list[kernel.TriggerRunRequest]:
        jobs = ("one", "one", "one", "one", "one", "unknown")
        return [kernel.TriggerRunRequest(job_id=job, request_id=str(uuid4())) for job in jobs]

    async def send_message(stream: Any) -> None:
        items = [{"number": number, "request": request} for number, request in enumerate(requests())]
        await stream.write(kernel.StreamTriggersRequest(items=items))
        answered: list[Any] = []
        while len(answered) < len(items):
            answered += (await stream.read()).items
        assert [item.number for item in answered if item.status] == [5]
        acknowledged.extend(item.response.run_id for item in answered if not item.status)

    async def send_batch() -> None:
        answer = await client.TriggerRuns(kernel.TriggerRunsRequest(requests=requests()), timeout=DEADLINE)
        acknowledged.extend(item.response.run_id for item in answer.items if item.HasField("response"))

    async def caller() -> None:
        stream = client.StreamTriggers(timeout=DEADLINE) if by == "messages" else None
        with contextlib.suppress(grpc.aio.AioRpcError):
            while True:
                await (call() if by == "calls" else send_batch() if stream is None else send_message(stream))

    callers = [asyncio.create_task(caller()) for _ in range(16)]
    await eventually(lambda: len(acknowledged) >= 200)
    await process.kill()
    await asyncio.gather(*callers)
    with closing(sqlite3.connect(process.project / ".nomaflow" / "kernel.db")) as raw:
        runs = {run_id for (run_id,) in raw.execute("SELECT run_id FROM runs")}
        notes = [note for (note,) in raw.execute("SELECT note FROM audit WHERE action = 'TriggerRuns'")]
    audited = {row[4] for row in rows(process.project) if (row[1], row[3]) == ("TriggerRun", "ok")}
    assert set(acknowledged) <= runs
    if by == "batches":
        assert sum(int(note.partition(" of ")[0]) for note in notes) == len(runs)
    else:
        assert audited == runs
    found = await verdict(process.project)
    assert (found.bad_seq, found.rows >= len(runs) / 5) == (0, True)


async def test_without_an_audit_nothing_is_written(project: Path) -> None:
    """`[kernel.audit] enabled = false` leaves the table empty; everything else works."""
    (project / "nomaflow.toml").write_text("[kernel.audit]\nenabled = false\n")
    process = await KernelProcess(project=project).start()
    try:
        await process.client().Pause(kernel.PauseRequest(), timeout=DEADLINE)
        assert await process.stop() == 0
        assert rows(project) == []
    finally:
        await process.close()


async def test_hundreds_of_bad_tokens_are_two_rows_and_a_warning(project: Path) -> None:
    """Whoever tries tokens over TCP is seen at once, in audit and log, and cannot fill either."""
    port = free_ports(3)
    process = KernelProcess(project=project, flags=("--address", f"unix:,tls://127.0.0.1:{port}"))
    await process.start()
    try:
        trusted = grpc.ssl_channel_credentials((project / ".nomaflow" / "pki" / "authorities.pem").read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
            stub: Any = KernelServiceStub(channel)
            for number in range(500):
                bad = (("authorization", f"Bearer nft1.{number}"),)
                with pytest.raises(grpc.aio.AioRpcError, match="none was shown, or one that is unknown"):
                    await stub.ListJobs(kernel.ListJobsRequest(), metadata=bad, timeout=DEADLINE)
                if number == 0:
                    await eventually(lambda: "a call from ipv4:127.0.0.1 has no valid credential" in process.log)
                    await eventually(lambda: rows(project)[-1][:4] == ("anyone", "ListJobs", "", "UNAUTHENTICATED"))
        written = len(process.log)
        assert await process.stop() == 0
        with closing(sqlite3.connect(project / ".nomaflow" / "kernel.db")) as raw:
            counts = raw.execute("SELECT count FROM audit WHERE outcome = 'UNAUTHENTICATED' ORDER BY seq").fetchall()
        assert sum(count for (count,) in counts) == 500
        assert len(counts) <= 6
        assert written < 4000
    finally:
        await process.close()


async def test_a_row_edited_in_the_database_is_named(process: KernelProcess) -> None:
    """`nomaflow audit verify` exits 1 and names the first bad row, also while the kernel runs and writes on."""
    client, command = process.client(), command_in(process.project)
    for _ in range(3):
        await client.Pause(kernel.PauseRequest(), timeout=DEADLINE)
    assert (await command("audit", "verify")).code == 0
    with closing(sqlite3.connect(process.project / ".nomaflow" / "kernel.db", timeout=10)) as raw, raw:
        raw.execute("UPDATE audit SET principal = 'somebody' WHERE seq = 3")
    await client.Pause(kernel.PauseRequest(), timeout=DEADLINE)
    done = await command("audit", "verify")
    assert (done.code, done.out.splitlines()[0]) == (
        1,
        "✘ row 3: the hash of row 3 does not fit its content and the row before",
    )
