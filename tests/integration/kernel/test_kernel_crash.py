"""kill -9 of the kernel at the moments where something could be lost or done twice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import grpc
import pytest
from kernel_process import DEADLINE, KernelProcess, ScriptedHost, finished, lines_of, log, started, terminal

from nomaflow_api.v1 import host_pb2, run_pb2
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.letter_words import AckStatus, VerdictAction
from nomaflow_api.v1.letters import InventoryLine
from nomaflow_api.v1.sealing import open_verdicts
from postgres_server import SUPERUSER, PostgresServer
from waiting import eventually

_numbers = itertools.count(1)
on_each_store = pytest.mark.parametrize(
    "process", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)
"""Marks a test whose kernel is started once on each kind of store."""


@pytest.fixture
async def process(request: pytest.FixtureRequest, project: Path) -> AsyncIterator[KernelProcess]:
    """Start a kernel process, on SQLite unless a test wants both; nothing of it is left afterwards."""
    flags: tuple[str, ...] = ()
    if getattr(request, "param", "sqlite") == "postgresql":
        flags = ("--store", await empty_database(request.getfixturevalue("postgres_server")))
    kernel = KernelProcess(project=project, flags=flags)
    try:
        yield await kernel.start()
    finally:
        await kernel.close()


async def empty_database(server: PostgresServer) -> str:
    """Make a database and return the URL of a store in it."""
    name = f"crash_{next(_numbers)}"
    connection = await asyncpg.connect(host=str(server.folder), user=SUPERUSER, database="postgres")
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return server.url(name)


async def restart(process: KernelProcess) -> None:
    """Kill the kernel and start it on the same project."""
    await process.kill()
    await process.start()


async def trigger(process: KernelProcess, request_id: str = "") -> str:
    """Trigger job ``one`` and return the run's id."""
    request = kernel.TriggerRunRequest(job_id="one", request_id=request_id)
    return str((await process.client().TriggerRun(request, timeout=DEADLINE)).run_id)


def held(key: str, *, ended: bool = False) -> Sequence[InventoryLine]:
    """Return an inventory of one attempt."""
    return [InventoryLine(attempt_key=key, ended=ended)]


async def test_a_trigger_acknowledged_before_the_kill_is_exactly_one_run(
    process: KernelProcess, host: ScriptedHost
) -> None:
    """The run is there after the restart, and the same request asks for the same run; another is refused."""
    await host.attach(process.channel())
    run_id = await trigger(process, "key-1")
    await restart(process)
    assert await trigger(process, "key-1") == run_id
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await process.client().TriggerRun(
            kernel.TriggerRunRequest(job_id="one", request_id="key-1", by="somebody else"), timeout=DEADLINE
        )
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    runs = (await process.client().ListRuns(kernel.ListRunsRequest(), timeout=DEADLINE)).runs
    assert [run.run_id for run in runs] == [run_id]


async def test_a_dispatch_the_host_never_got_is_sent_again_under_the_same_key(
    process: KernelProcess, host: ScriptedHost
) -> None:
    """An attempt that is committed and unknown to its instance was never started."""
    await host.attach(process.channel())
    run_id = await trigger(process)
    lost = await host.dispatched()
    await restart(process)
    await host.attach(process.channel(), inventory=())
    again = await host.dispatched()
    assert again.attempt_key == lost.attempt_key
    assert again.epoch > lost.epoch
    await host.report(again.attempt_key, 1, started(), finished())
    run = await terminal(process.client(), run_id)
    assert (run.state, len(run.steps[0].attempts)) == (run_pb2.RUN_STATE_SUCCEEDED, 1)


@on_each_store
async def test_a_running_attempt_goes_on_and_no_line_is_lost_or_doubled(
    process: KernelProcess, host: ScriptedHost
) -> None:
    """Acknowledged lines stay; the host resumes after them, and the worker's pid is the same."""
    await host.attach(process.channel())
    run_id = await trigger(process)
    key = (await host.dispatched()).attempt_key
    ack = await host.report(key, 1, started(4242), log("1", "2"))
    await restart(process)
    await is_awaited(process)
    welcome = await host.attach(process.channel(), inventory=held(key))
    (verdict,) = open_verdicts(welcome.verdicts)
    assert (verdict.action, verdict.acknowledged_seq) == (VerdictAction.KEEP, ack.acknowledged_seq)
    await host.report(key, verdict.acknowledged_seq + 1, log("3"), log("4", "5"), finished())
    run = await terminal(process.client(), run_id)
    assert run.steps[0].attempts[0].worker_pid == 4242
    expected = [(number, str(number)) for number in range(1, 6)]
    assert await lines_of(process.client(), run_id) == expected
    assert host.commands.empty()


async def is_awaited(process: KernelProcess) -> None:
    """Check that a host whose step may still run has not left for a kernel that has just started."""
    client = process.client()
    (told,) = (await client.ListHosts(kernel.ListHostsRequest(), timeout=DEADLINE)).hosts
    assert (told.state, told.HasField("absent_since")) == (host_pb2.HOST_STATE_AWAITED, False)
    with pytest.raises(grpc.aio.AioRpcError, match=r"holds a step that may still run; it can be forgotten when"):
        await client.ForgetHost(kernel.ForgetHostRequest(host=told.name), timeout=DEADLINE)


async def test_a_report_whose_answer_was_lost_is_taken_in_once(process: KernelProcess, host: ScriptedHost) -> None:
    """The host repeats what it does not know to be committed, whether it was or not."""
    await host.attach(process.channel())
    run_id = await trigger(process)
    key = (await host.dispatched()).attempt_key
    await host.report(key, 1, started(), log("1"))
    unanswered = asyncio.ensure_future(host.report(key, 3, log("2"), finished(5)))
    await asyncio.sleep(0)
    await process.kill()
    await asyncio.gather(unanswered, return_exceptions=True)
    await process.start()
    welcome = await host.attach(process.channel(), inventory=held(key, ended=True))
    if open_verdicts(welcome.verdicts)[0].action == VerdictAction.KEEP:
        ack = await host.report(key, 3, log("2"), finished(5))
        assert (ack.status, ack.acknowledged_seq) == (AckStatus.OK, 4)
    run = await terminal(process.client(), run_id)
    assert (run.state, run.rows_affected) == (run_pb2.RUN_STATE_SUCCEEDED, 5)
    assert await lines_of(process.client(), run_id) == [(1, "1"), (2, "2")]


async def test_a_finished_attempt_is_acknowledged_again_after_a_restart(
    process: KernelProcess, host: ScriptedHost
) -> None:
    """A host that missed the last acknowledgement may forget the attempt; its state does not change."""
    await host.attach(process.channel())
    run_id = await trigger(process)
    key = (await host.dispatched()).attempt_key
    await host.report(key, 1, started(), finished(5))
    await restart(process)
    welcome = await host.attach(process.channel(), inventory=held(key, ended=True))
    assert open_verdicts(welcome.verdicts)[0].action == VerdictAction.FORGET
    again = await host.report(key, 1, started(), finished(5))
    assert (again.status, again.acknowledged_seq) == (AckStatus.OK, 2)
    assert (await terminal(process.client(), run_id)).rows_affected == 5


async def test_a_watch_goes_on_after_the_kill_where_it_was(process: KernelProcess, host: ScriptedHost) -> None:
    """The watcher sees UNAVAILABLE, resumes by sequence, and has every event once."""
    await host.attach(process.channel())
    run_id = await trigger(process)
    key = (await host.dispatched()).attempt_key
    await host.report(key, 1, started())
    seen: list[tuple[int, str]] = []
    live = process.client().WatchRun(kernel.WatchRunRequest(run_id=run_id))

    async def watch_until_it_breaks() -> None:
        async for message in live:
            seen.extend((event.seq, event.kind) for event in message.events)
            if any(event.kind == "attempt.started" for event in message.events):
                await process.kill()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch_until_it_breaks()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await process.start()
    await host.attach(process.channel(), inventory=held(key))
    resumed = process.client().WatchRun(kernel.WatchRunRequest(run_id=run_id, after_seq=seen[-1][0]))
    await host.report(key, 2, finished())
    seen += [(event.seq, event.kind) async for message in resumed for event in message.events]
    whole = process.client().WatchRun(kernel.WatchRunRequest(run_id=run_id))
    assert seen == [(event.seq, event.kind) async for message in whole for event in message.events]
    assert seen[-1][1] == "run.finished"


@on_each_store
async def test_many_triggers_under_kills_are_each_exactly_one_run(process: KernelProcess, host: ScriptedHost) -> None:
    """Callers that repeat their request until it is answered end up with one run per key, whenever the kernel dies."""
    await host.attach(process.channel())
    answers: dict[str, str] = {}

    async def insist(request_id: str) -> None:
        while request_id not in answers:
            try:
                answers[request_id] = await trigger(process, request_id)
            except (grpc.aio.AioRpcError, OSError):
                await asyncio.sleep(0.05)

    for round_ in range(3):
        callers = [asyncio.create_task(insist(f"{round_}-{number}")) for number in range(20)]
        await eventually(lambda: len(answers) > round_ * 20 + 3)  # noqa: B023  # awaited within the round
        await restart(process)
        await asyncio.gather(*callers)
    runs = (await process.client().ListRuns(kernel.ListRunsRequest(page_size=500), timeout=DEADLINE)).runs
    assert sorted(run.run_id for run in runs) == sorted(answers.values())
    assert len(set(answers.values())) == 60


async def test_the_catalogue_outlives_the_kernel(process: KernelProcess, host: ScriptedHost) -> None:
    """The jobs are there after a restart without the host, and its manifest is not requested again."""
    await host.attach(process.channel())
    await restart(process)
    (told,) = (await process.client().ListHosts(kernel.ListHostsRequest(), timeout=DEADLINE)).hosts
    assert (told.state, told.HasField("absent_since")) == (host_pb2.HOST_STATE_DETACHED, True)
    jobs = (await process.client().ListJobs(kernel.ListJobsRequest(), timeout=DEADLINE)).jobs
    assert [job.job_id for job in jobs] == ["broken", "one", "two"]
    assert not (await host.attach(process.channel())).manifest_wanted
