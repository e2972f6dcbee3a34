"""Runs through a real kernel process, with a scripted host, over a real socket."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest
from kernel_process import (
    DEADLINE,
    JOBS,
    KernelProcess,
    ScriptedHost,
    finished,
    lines_of,
    log,
    manifest,
    started,
    terminal,
)

from nomaflow.client import KernelClient, Refused, TriggerOrder
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.letter_words import AckStatus, FinishedState, VerdictAction
from nomaflow_api.v1.letters import Finished, InventoryLine
from nomaflow_api.v1.reason_statuses import details_of, read_details
from nomaflow_api.v1.sealing import open_cancel, open_order, open_verdicts
from waiting import eventually


async def test_a_trigger_becomes_a_dispatch_a_report_and_a_finished_run(
    shared: KernelProcess, host: ScriptedHost
) -> None:
    """A two-step job runs to its end, with rows, extras, merged params and numbered lines all there."""
    await host.attach(shared.channel())
    client = shared.client()
    triggered = await client.TriggerRun(
        kernel.TriggerRunRequest(job_id="two", params_json=b'{"apps_id": 11}', by="ann"), timeout=DEADLINE
    )

    first = await host.dispatched()
    assert json.loads(open_order(first.order).kwargs_json) == {"apps_id": 11, "day": 3}
    assert open_order(first.order).strict_keys == ("day",)
    assert first.attempt_key == f"{triggered.run_id}/first/1"
    assert open_order(first.order).trigger_by == "owner (for ann)"
    ack = await host.report(first.attempt_key, 1, started(), log("one", "two"), finished(3, '{"k": [1]}'))
    assert (ack.status, ack.acknowledged_seq) == (AckStatus.OK, 3)

    second = await host.dispatched()
    assert open_order(second.order).prev_rows_affected == 3
    assert json.loads(open_order(second.order).previous_steps_json)[0]["extras"] == {"k": [1]}
    await host.report(second.attempt_key, 1, started(), log("three"), finished(4))

    run = await terminal(client, triggered.run_id)
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED
    assert run.rows_affected == 7
    assert json.loads(run.params_json) == {"apps_id": 11}
    assert [step.name for step in run.steps] == ["first", "second"]
    assert run.steps[0].attempts[0].worker_pid == 4711
    assert json.loads(run.steps[0].attempts[0].extras_json) == {"k": [1]}
    assert await lines_of(client, triggered.run_id) == [(1, "one"), (2, "two"), (3, "three")]
    assert await lines_of(client, triggered.run_id, step="second") == [(3, "three")]
    assert await lines_of(client, triggered.run_id, tail=1) == [(3, "three")]


async def test_a_trigger_that_is_too_large_is_refused_alone(shared: KernelProcess, host: ScriptedHost) -> None:
    """Triggers of a client share a stream, and a message over gRPC's limit would end it for all of them."""
    await host.attach(shared.channel())
    async with KernelClient(shared.address) as client:
        large = client.trigger(TriggerOrder(job_id="one", params={"text": "x" * 5_000_000}))
        small = (client.trigger(TriggerOrder(job_id="one")) for _ in range(10))
        refused, *made = await asyncio.gather(large, *small, return_exceptions=True)
    assert isinstance(refused, Refused)
    assert "bytes, expected at most 4,194,304" in str(refused)
    assert len({each.run_id for each in made if not isinstance(each, BaseException)}) == 10


async def test_a_run_whose_results_are_larger_than_grpc_s_own_limit_is_shown(
    shared: KernelProcess, host: ScriptedHost
) -> None:
    """A wait for it ends, too, since it asks for the run."""
    await host.attach(shared.channel())
    steps = [{"type": "python", "name": f"step{number}", "callable": "team.code:work"} for number in range(6)]
    await host.introduce(manifest(jobs={"jobs": [*JOBS["jobs"], {"id": "large", "steps": steps}]}))
    extras = json.dumps({"text": "x" * 1_900_000})
    async with KernelClient(shared.address) as client:
        run_id = (await client.trigger(TriggerOrder(job_id="large"))).run_id
        for _ in steps:
            dispatched = await host.dispatched()
            await host.report(dispatched.attempt_key, 1, started(), finished(extras=extras))
        run = await client.wait(run_id)
    assert [step.attempts[0].extras["text"] for step in run.steps] == ["x" * 1_900_000] * 6


async def test_a_watch_is_gapless_and_resumes_at_any_event(shared: KernelProcess, host: ScriptedHost) -> None:
    """A watch from the start and watches resumed after each event together tell one story, once."""
    await host.attach(shared.channel())
    client = shared.client()
    run_id = (await client.TriggerRun(kernel.TriggerRunRequest(job_id="one"), timeout=DEADLINE)).run_id
    live = aiter(client.WatchRun(kernel.WatchRunRequest(run_id=run_id)))
    assert (await anext(live)).snapshot.run_id == run_id
    dispatch = await host.dispatched()
    await host.report(dispatch.attempt_key, 1, started())
    await host.report(dispatch.attempt_key, 2, finished())
    story = [event async for message in live for event in message.events]

    kinds = [event.kind for event in story]
    assert kinds[:3] == ["run.queued", "run.started", "attempt.dispatched"]
    assert kinds[-2:] == ["attempt.finished", "run.finished"]
    assert [event.seq for event in story] == sorted({event.seq for event in story})
    for index, event in enumerate(story[:-1]):
        resumed = client.WatchRun(kernel.WatchRunRequest(run_id=run_id, after_seq=event.seq), timeout=DEADLINE)
        rest = [event.seq async for message in resumed for event in message.events]
        assert rest == [each.seq for each in story[index + 1 :]]


async def test_followed_logs_end_with_the_run(shared: KernelProcess, host: ScriptedHost) -> None:
    """A follower gets lines as they are committed, and its call ends by itself."""
    await host.attach(shared.channel())
    client = shared.client()
    run_id = (await client.TriggerRun(kernel.TriggerRunRequest(job_id="one"), timeout=DEADLINE)).run_id
    follower = aiter(client.ReadLogs(kernel.ReadLogsRequest(run_id=run_id, follow=True)))
    dispatch = await host.dispatched()
    await host.report(dispatch.attempt_key, 1, started(), log("early"))
    assert [line.message for line in (await anext(follower)).lines] == [b"early"]
    await host.report(dispatch.attempt_key, 3, log("late"), finished())
    rest = [line.message async for block in follower for line in block.lines]
    assert rest == [b"late"]


async def test_reports_that_come_twice_late_or_wrong_change_nothing(shared: KernelProcess, host: ScriptedHost) -> None:
    """Duplicates are passed over, gaps are named, contradictions refused; the log has each line once."""
    await host.attach(shared.channel())
    client = shared.client()
    run_id = (await client.TriggerRun(kernel.TriggerRunRequest(job_id="one"), timeout=DEADLINE)).run_id
    key = (await host.dispatched()).attempt_key

    gap = await host.report(key, 5, log("far ahead"))
    assert (gap.status, gap.acknowledged_seq) == (AckStatus.GAP, 0)
    await host.report(key, 1, started(), log("a"))
    again = await host.report(key, 1, started(), log("a"), log("b"))
    assert (again.status, again.acknowledged_seq) == (AckStatus.OK, 3)
    unknown = await host.report(key, 4, b"no event")
    assert unknown.status == AckStatus.INVALID
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await host.report("../etc/passwd", 1, started())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await host.report(key, 4, finished(1))
    assert (await host.report(key, 4, finished(1))).status == AckStatus.OK

    run = await terminal(client, run_id)
    assert (run.state, run.rows_affected) == (run_pb2.RUN_STATE_SUCCEEDED, 1)
    assert await lines_of(client, run_id) == [(1, "a"), (2, "b")]


async def test_a_report_of_another_epoch_is_refused(shared: KernelProcess, host: ScriptedHost) -> None:
    """A report for another kernel's epoch is refused."""
    await host.attach(shared.channel())
    client = shared.client()
    await client.TriggerRun(kernel.TriggerRunRequest(job_id="one"), timeout=DEADLINE)
    key = (await host.dispatched()).attempt_key
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await host.report(key, 1, started(), epoch=host.epoch + 1)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_newer_session_of_an_instance_ends_the_older(shared: KernelProcess, host: ScriptedHost) -> None:
    """The older session ends with ABORTED, and the attempt continues with the newer one."""
    await host.attach(shared.channel())
    client = shared.client()
    run_id = (await client.TriggerRun(kernel.TriggerRunRequest(job_id="one"), timeout=DEADLINE)).run_id
    key = (await host.dispatched()).attempt_key
    newer = ScriptedHost(incarnation=host.incarnation)
    held = InventoryLine(attempt_key=key)
    welcome = await newer.attach(shared.channel(), inventory=[held])
    assert [verdict.action for verdict in open_verdicts(welcome.verdicts)] == [VerdictAction.KEEP]
    code, _ = await host.ended()
    assert code is grpc.StatusCode.ABORTED
    await newer.report(key, 1, started(), finished())
    assert (await terminal(client, run_id)).state == run_pb2.RUN_STATE_SUCCEEDED
    await newer.leave()


async def test_a_cancel_reaches_the_host_and_the_run_is_canceled_when_its_code_has_stopped(
    shared: KernelProcess, host: ScriptedHost
) -> None:
    """The request is recorded at once, the state changes with the host's word; a second cancel changes nothing."""
    await host.attach(shared.channel())
    client = shared.client()
    run_id = (await client.TriggerRun(kernel.TriggerRunRequest(job_id="one"), timeout=DEADLINE)).run_id
    key = (await host.dispatched()).attempt_key
    await host.report(key, 1, started())
    answer = await client.CancelRun(kernel.CancelRunRequest(run_id=run_id, by="bob", why="wrong day"), timeout=DEADLINE)
    assert answer.run.state == run_pb2.RUN_STATE_RUNNING
    assert (answer.run.cancel.by, answer.run.cancel.why) == ("owner (for bob)", "wrong day")
    await client.CancelRun(kernel.CancelRunRequest(run_id=run_id, by="eve"), timeout=DEADLINE)
    with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
        await client.CancelRun(kernel.CancelRunRequest(run_id=f"run_{'0' * 26}"), timeout=DEADLINE)
    command = await eventually(lambda: None if host.commands.empty() else host.commands.get_nowait())
    cancel = open_cancel(command.cancel)
    assert (cancel.attempt_key, cancel.by) == (key, "owner (for bob)")
    stopped = Finished(at_us=3, state=FinishedState.CANCELED, reason_code="canceled_by_user", reason="stopped")
    await host.report(key, 2, stopped)
    run = await terminal(client, run_id)
    assert (run.state, run.cancel.by) == (run_pb2.RUN_STATE_CANCELED, "owner (for bob)")


VALUES = {
    "5 MiB": (b'{"a": "' + b"x" * (5 << 20) + b'"}', None),
    "300 KiB": (b'{"a": "' + b"x" * (300 << 10) + b'"}', ""),
    "100,000 levels": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    "NaN": (b'{"a": NaN}', ".a"),
    "5,000 digits": (b'{"a": ' + b"9" * 5000 + b"}", ".a"),
    "a key twice": (b'{"a": 1, "a": 2}', ""),
    "a list": (b"[1]", ""),
}


@pytest.mark.parametrize("what", VALUES)
async def test_values_that_cannot_be_used_are_refused_with_their_field(shared: KernelProcess, what: str) -> None:
    """A17: in each place where a client gives values. Only gRPC refuses more than 4 MiB, and it knows no field."""
    values, below = VALUES[what]
    client = shared.client()
    run_id, item = "run_" + "0" * 26, [run_pb2.StepValues(step="s", op_kwargs_json=values)]
    for call, field in (
        (client.TriggerRun(kernel.TriggerRunRequest(job_id="one", params_json=values)), "params_json"),
        (client.TriggerRun(kernel.TriggerRunRequest(job_id="one", step_values=item)), "step_values.s.op_kwargs_json"),
        (client.ReplayRun(kernel.ReplayRunRequest(run_id=run_id, params_json=values)), "params_json"),
        (client.ReplayRun(kernel.ReplayRunRequest(run_id=run_id, step_values=item)), "step_values.s.op_kwargs_json"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        if below is None:
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "larger than max" in (caught.value.details() or "")
            continue
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert list(read_details(caught.value.trailing_metadata()).fields) == [field + below]
    assert "Traceback" not in shared.log


async def test_no_text_of_others_forges_a_line_of_the_kernels_log(shared: KernelProcess, host: ScriptedHost) -> None:
    """V13: machine, folder and version of a host, an attempt's key and the reason of a stop are spelled out."""
    forged = "x\n2026-11-26 00:00:00.000 INFO     nomaflow: forged\x1b[2J\r\u202e"
    await host.attach(shared.channel(), machine=forged, project=forged, version=forged)
    client = shared.client()
    run_id = (await client.TriggerRun(kernel.TriggerRunRequest(job_id="one"), timeout=DEADLINE)).run_id
    await client.CancelRun(kernel.CancelRunRequest(run_id=run_id, why=forged), timeout=DEADLINE)
    with pytest.raises(grpc.aio.AioRpcError):
        await host.report(f"{run_id}/{forged}/1", 1, started())
    await host.report(f"{run_id}/{forged[:1]}/9", 1, started())
    hostile = ScriptedHost(name="other")
    await hostile.attach(shared.channel(), machine=forged, ended_incarnations=[forged], heartbeat={"generation": 1})
    await hostile.leave()
    await eventually(lambda: "host other detached" in shared.log)
    assert "forged" in shared.log
    assert shared.log.replace("\n", "").isprintable()
    assert [line for line in shared.log.splitlines() if line.startswith("2026-11-26 00:00:00.000")] == []


async def test_a_thousand_triggers_in_one_call_have_their_own_outcomes(
    process: KernelProcess, host: ScriptedHost
) -> None:
    """Good ones become runs, bad ones say why, in order; one more than the bound is refused whole."""
    await host.attach(process.channel())
    client = process.client()
    requests = [kernel.TriggerRunRequest(job_id="one", request_id=f"r{index}") for index in range(996)]
    requests += [
        kernel.TriggerRunRequest(job_id="absent"),
        kernel.TriggerRunRequest(job_id="broken"),
        kernel.TriggerRunRequest(job_id="one", params_json=b"[NaN]"),
        kernel.TriggerRunRequest(job_id="one", request_id="r0"),
    ]
    answer = await client.TriggerRuns(kernel.TriggerRunsRequest(requests=requests), timeout=DEADLINE)
    assert len({item.response.run_id for item in answer.items[:996]}) == 996
    refused = [details_of(item.status).reason for item in answer.items[996:999]]
    assert refused == ["JOB_NOT_FOUND", "JOB_DISABLED", "BAD_REQUEST"]
    assert answer.items[999].response.run_id == answer.items[0].response.run_id
    assert answer.items[999].response.deduplicated
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.TriggerRuns(
            kernel.TriggerRunsRequest(requests=[kernel.TriggerRunRequest(job_id="one")] * 1001), timeout=DEADLINE
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_pages_of_runs_hang_together(process: KernelProcess, host: ScriptedHost) -> None:
    """Pages are newest first, without overlap; a token of somebody's own making is refused."""
    await host.attach(process.channel())
    client = process.client()
    requests = [kernel.TriggerRunRequest(job_id="one")] * 7
    made = await client.TriggerRuns(kernel.TriggerRunsRequest(requests=requests), timeout=DEADLINE)
    seen: list[str] = []
    token = ""
    while True:
        page = await client.ListRuns(kernel.ListRunsRequest(page_size=3, page_token=token), timeout=DEADLINE)
        seen += [run.run_id for run in page.runs]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted((item.response.run_id for item in made.items), reverse=True)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.ListRuns(kernel.ListRunsRequest(page_token="bm9uZQ"), timeout=DEADLINE)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_jobs_and_hosts_are_shown_with_what_hinders_them(process: KernelProcess, host: ScriptedHost) -> None:
    """The catalogue has the broken job with its problem, the host its instance; a pause shows on both."""
    await host.attach(process.channel())
    client = process.client()
    jobs = {job.job_id: job for job in (await client.ListJobs(kernel.ListJobsRequest(), timeout=DEADLINE)).jobs}
    assert set(jobs) == {"one", "two", "broken"}
    assert not jobs["broken"].valid
    assert jobs["broken"].problems[0].severity == "error"
    await client.Pause(kernel.PauseRequest(host="team", why="deploy", by="ann"), timeout=DEADLINE)
    job = (await client.GetJob(kernel.GetJobRequest(job_id="one"), timeout=DEADLINE)).job
    assert (job.pause.host, job.pause.why) == ("team", "deploy")
    assert json.loads(job.definition_json)["id"] == "one"
    hosts = (await client.ListHosts(kernel.ListHostsRequest(), timeout=DEADLINE)).hosts
    assert [(each.name, each.job_count, each.callable_count) for each in hosts] == [("team", 3, 1)]
    assert hosts[0].instances[0].incarnation == host.incarnation
    assert (await client.Resume(kernel.ResumeRequest(host="team"), timeout=DEADLINE)).was_paused
    assert not (await client.Resume(kernel.ResumeRequest(host="team"), timeout=DEADLINE)).was_paused
