"""Unary calls: retries, deadlines, errors, what is sent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from certificate_authority import Authority
from fake_kernel import FakeKernel, Refusal, make_run
from nomaflow.client import (
    InvalidRequest,
    KernelClient,
    KernelFailed,
    KernelUnreachable,
    NotFound,
    NotTrusted,
    ProjectAddress,
    Refused,
    SyncKernelClient,
    TriggerOrder,
    Unauthenticated,
)
from nomaflow.client.alerts import AlertsClient, alerts_address_file
from nomaflow.client.failed_calls import STATUS_ERRORS, client_error
from nomaflow.client.values import Triggered
from nomaflow_api.v1 import alerts_service_pb2, host_pb2, job_pb2, run_pb2
from nomaflow_api.v1 import kernel_service_pb2 as pb
from nomaflow_api.v1.alerts_service_pb2_grpc import AlertsServiceServicer, add_AlertsServiceServicer_to_server
from nomaflow_api.v1.reason_statuses import ErrorDetails, write_details


async def test_a_trigger_is_sent_again_under_the_same_key(kernel: FakeKernel, client: KernelClient) -> None:
    """A trigger whose answer was lost is sent again, and is still one run."""
    kernel.refusals["TriggerRun"] = [Refusal(grpc.StatusCode.UNAVAILABLE)]
    kernel.refusals["TriggerRun after"] = [Refusal(grpc.StatusCode.UNAVAILABLE)]
    started = await client.trigger("nightly")
    keys = {request.request_id for request in kernel.requests["TriggerRun"]}
    assert len(kernel.requests["TriggerRun"]) == 3
    assert len(keys) == 1
    assert all(keys)
    assert started == Triggered(run_id="run_1", deduplicated=True)
    assert len(kernel.runs) == 1


async def test_two_triggers_have_two_keys(kernel: FakeKernel, client: KernelClient) -> None:
    """Each trigger without a key of its own gets a new one."""
    await client.trigger("nightly")
    await client.trigger("nightly")
    assert len({request.request_id for request in kernel.requests["TriggerRun"]}) == 2


async def test_triggers_go_on_a_stream_that_stays_open(kernel: FakeKernel, client: KernelClient) -> None:
    """One after another, and many at once, which go together in few messages."""
    for _ in range(5):
        await client.trigger("job")
    assert kernel.messages_of_triggers == 5
    runs = await asyncio.gather(*(client.trigger("job") for _ in range(200)))
    assert len({run.run_id for run in runs}) == 200
    assert kernel.streams_opened == 1
    assert kernel.messages_of_triggers <= 15


async def test_a_stream_of_triggers_that_broke_is_not_used_again(kernel: FakeKernel, client: KernelClient) -> None:
    """A refused trigger leaves it open. A lost answer is asked for again, and so is that of a restarted kernel."""
    await client.trigger("job")
    kernel.refusals["TriggerRun"] = [Refusal(grpc.StatusCode.FAILED_PRECONDITION, "not today")]
    with pytest.raises(Refused, match="not today"):
        await client.trigger("job")
    await client.trigger("job")
    assert kernel.streams_opened == 1
    kernel.refusals["TriggerRun after"] = [Refusal(grpc.StatusCode.UNAVAILABLE)]
    again = await client.trigger("job")
    assert again.deduplicated
    assert kernel.streams_opened == 2
    await kernel.stop()
    await kernel.start()
    assert (await client.trigger("job")).run_id
    assert kernel.streams_opened == 3


async def test_a_client_that_is_closed_leaves_no_task(kernel: FakeKernel, client: KernelClient) -> None:
    """Python would say at the end of its process that a task was destroyed while it was pending."""
    before = asyncio.all_tasks()
    await client.trigger("job")
    assert asyncio.all_tasks() - before
    await client.close()
    left = {str(task.get_coro()) for task in asyncio.all_tasks() - before if not task.done()}
    assert not [each for each in left if "_Stream" in each]
    assert len(kernel.runs) == 1


async def test_a_trigger_carries_everything_it_was_given(kernel: FakeKernel, client: KernelClient) -> None:
    """Params, op_kwargs, switches and the rest arrive as they were given, integers exactly."""
    order = TriggerOrder(
        job_id="nightly",
        params={"big": 2**70},
        op_kwargs={"purge": {"apps_id": 10}, "empty": {}},
        steps={"load": False},
        preset="small",
        log_level="DEBUG",
        request_id="k1",
        kind="cli",
        overlap="allow",
    )
    await client.trigger(order)
    sent = kernel.requests["TriggerRun"][0]
    assert sent.params_json == b'{"big":1180591620717411303424}'
    assert [(one.step, one.op_kwargs_json) for one in sent.step_values] == [
        ("purge", b'{"apps_id":10}'),
        ("empty", b""),
    ]
    assert [(one.step, one.enabled) for one in sent.step_switches] == [("load", False)]
    assert (sent.preset, sent.log_level, sent.request_id, sent.by) == ("small", "DEBUG", "k1", "tester")
    assert sent.overlap == run_pb2.OVERLAP_CHOICE_ALLOW


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
async def test_values_that_are_no_json_are_refused_before_the_call(
    kernel: FakeKernel, client: KernelClient, value: object
) -> None:
    """A value that JSON cannot hold is refused by name and never sent."""
    with pytest.raises(InvalidRequest, match="params cannot be sent as JSON"):
        await client.trigger(TriggerOrder(job_id="nightly", params={"x": value}))
    assert not kernel.requests["TriggerRun"]


def test_every_status_code_has_an_error() -> None:
    """The table from status codes to errors is complete."""
    assert set(STATUS_ERRORS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


async def test_a_kernel_without_its_store_is_not_to_be_started(kernel: FakeKernel, client: KernelClient) -> None:
    """A kernel that answers without its store is reported as running, so nobody starts it again."""
    kernel.refusals["GetRun"] = [
        Refusal(grpc.StatusCode.UNAVAILABLE, "the store is away", reason="STORE_UNAVAILABLE") for _ in range(50)
    ]
    with pytest.raises(KernelUnreachable) as caught:
        await client.get_run("run_1")
    assert caught.value.reason == "STORE_UNAVAILABLE"
    assert "the kernel runs" in caught.value.fix
    assert "nomaflow up" not in caught.value.fix


async def test_an_error_carries_reason_fix_and_fields(kernel: FakeKernel, client: KernelClient) -> None:
    """The details of a status become attributes of the error."""
    kernel.refusals["GetRun"] = [
        Refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            "bad request",
            reason="BAD_REQUEST",
            fix="give an id",
            fields={"run_id": "is empty"},
        )
    ]
    with pytest.raises(InvalidRequest) as caught:
        await client.get_run("")
    assert caught.value.reason == "BAD_REQUEST"
    assert caught.value.fix == "give an id"
    assert caught.value.fields == {"run_id": "is empty"}
    assert str(caught.value) == "bad request; run_id: is empty"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, Refused),
        (grpc.StatusCode.ALREADY_EXISTS, Refused),
        (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated),
    ],
)
async def test_refusals_are_not_tried_again(
    kernel: FakeKernel, client: KernelClient, code: grpc.StatusCode, kind: type[Exception]
) -> None:
    """A refused call is sent only once."""
    kernel.refusals["GetRun"] = [Refusal(code, reason="WHY"), Refusal(code)]
    with pytest.raises(kind):
        await client.get_run("run_1")
    assert len(kernel.requests["GetRun"]) == 1


async def test_exhausted_is_tried_again_only_when_told_when(kernel: FakeKernel, client: KernelClient) -> None:
    """RESOURCE_EXHAUSTED is retried after the time the kernel named, and not without one."""
    kernel.runs["run_1"] = make_run()
    kernel.refusals["GetRun"] = [Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="QUOTA", retry_after=0.05)]
    assert (await client.get_run("run_1")).run_id == "run_1"
    kernel.refusals["GetRun"] = [Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="QUOTA")]
    with pytest.raises(Refused):
        await client.get_run("run_1")


async def test_a_kernel_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing kernel is an error that names the address and the way out, soon."""
    async with KernelClient(f"unix:{tmp_path}/none.sock", connect_seconds=0.3) as client:
        with pytest.raises(KernelUnreachable, match=r"no kernel answers at unix:.*none\.sock") as caught:
            await client.get_kernel()
    assert "nomaflow up" in caught.value.fix


async def test_a_socket_that_this_user_may_not_use_is_named() -> None:
    """The kernel may well be there: the error speaks of the right to its socket, and of the way in over TCP."""
    text = "failed to connect to all addresses; last error: x error: Permission denied"
    refused = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), text)
    error = client_error(refused, address="unix:/srv/team/kernel.sock")
    assert isinstance(error, KernelUnreachable)
    assert "this user may not use the socket unix:/srv/team/kernel.sock" in error.message
    assert "nomaflow login FILE" in error.fix


async def test_a_project_without_an_address_is_named(tmp_path: Path) -> None:
    """A project whose kernel never ran says so, and may be given as a text; its kernel may be elsewhere."""
    for project in (tmp_path, str(tmp_path)):
        async with KernelClient(ProjectAddress(project=project), connect_seconds=0.1) as client:
            with pytest.raises(KernelUnreachable, match="no kernel runs") as caught:
                await client.get_kernel()
        assert "or name the address of another" in caught.value.fix


async def test_a_kernel_that_comes_back_elsewhere_is_found(kernel: FakeKernel, tmp_path: Path) -> None:
    """The address file is read again at every try, so a restart may change the address."""
    address = tmp_path / ".nomaflow" / "address"
    address.parent.mkdir()
    address.write_text(f"unix:{tmp_path}/gone.sock\n")
    async with KernelClient(ProjectAddress(project=tmp_path), connect_seconds=10) as client:
        asking = asyncio.create_task(client.get_kernel())
        address.write_text(kernel.address + "\n")
        assert (await asking).version == "9"


async def test_a_kernel_that_is_restarted_is_found_again(kernel: FakeKernel, tmp_path: Path) -> None:
    """It removes the address file when it stops, and writes another address when it is back."""
    address, gone = tmp_path / ".nomaflow" / "address", asyncio.Event()
    address.parent.mkdir()
    address.write_text(kernel.address + "\n")
    source, back = ProjectAddress(project=tmp_path), FakeKernel(tmp_path / "back.sock")
    async with KernelClient(source, retry_seconds=30, on_connected=lambda there: there or gone.set()) as client:
        await client.get_kernel()
        address.unlink()
        await kernel.stop()
        asking = asyncio.create_task(client.get_kernel())
        await gone.wait()
        await back.start()
        address.write_text(back.address + "\n")
        assert (await asking).version == "9"
    await back.stop()


async def test_a_token_is_sent_over_tls_only(kernel: FakeKernel, tmp_path: Path) -> None:
    """As a bearer with every call on TCP; on a Unix socket, whose directory is the proof, nothing is sent."""
    pair = (authority := Authority(tmp_path)).issue("server", "127.0.0.1")
    remote = FakeKernel(tmp_path / "unused")
    await remote.start(grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())]))
    for ca in (authority.file, str(authority.file), authority.file.read_bytes()):
        async with KernelClient(remote.address, token="s3cret", ca=ca) as client:
            await client.get_kernel()
        assert remote.metadata.pop()["authorization"] == "Bearer s3cret"
    async with KernelClient(remote.address.removeprefix("tls://"), token="s3cret") as client:
        with pytest.raises(NotTrusted, match="nobody trusted has signed"):
            await client.get_kernel()
    assert remote.metadata == []
    await remote.stop()
    async with KernelClient(kernel.address, token="s3cret") as client:
        await client.get_kernel()
    assert "authorization" not in kernel.metadata[-1]


async def test_pages_are_asked_for_one_by_one(kernel: FakeKernel, client: KernelClient) -> None:
    """A list of runs asks for the next page only if it is wanted."""
    kernel.runs = {f"run_{number}": make_run(f"run_{number}", "SUCCEEDED") for number in range(7)}
    assert [run.run_id async for run in client.list_runs(page_size=3)] == list(kernel.runs)
    assert len(kernel.requests["ListRuns"]) == 3
    with pytest.raises(InvalidRequest, match="unknown run state 'DONE'"):
        _ = [run async for run in client.list_runs(states=["DONE"])]


async def test_lists_of_jobs_and_hosts_are_read_to_their_end(kernel: FakeKernel, client: KernelClient) -> None:
    """A list that the kernel sends in pages is one list for the caller, the problems of files with it."""
    jobs, problem = [job_pb2.Job(job_id=name) for name in "abc"], job_pb2.Problem(message="bad")
    kernel.replies["ListJobs"] = [
        pb.ListJobsResponse(jobs=jobs[:2], problems=[problem], next_page_token="1"),
        pb.ListJobsResponse(jobs=jobs[2:]),
    ]
    kernel.replies["ListHosts"] = [
        pb.ListHostsResponse(hosts=[host_pb2.Host(name="one")], next_page_token="1"),
        pb.ListHostsResponse(hosts=[host_pb2.Host(name="two")]),
    ]
    found = await client.list_jobs(tag="t")
    assert [job.job_id for job in found.jobs] == ["a", "b", "c"]
    assert [each.message for each in found.problems] == ["bad"]
    assert {request.tag for request in kernel.requests["ListJobs"]} == {"t"}
    assert [host.name for host in await client.list_hosts()] == ["one", "two"]


async def test_a_job_that_changed_between_two_lists_is_another_value(kernel: FakeKernel, client: KernelClient) -> None:
    """Those that stayed as they were are not read again; for the caller all are as the kernel says now."""
    names = [job_pb2.Job(job_id=name) for name in "ab"]
    changed = [names[0], job_pb2.Job(job_id="b", description="new")]
    kernel.replies["ListJobs"] = pb.ListJobsResponse(jobs=names)
    first = await client.list_jobs()
    kernel.replies["ListJobs"] = pb.ListJobsResponse(jobs=changed)
    second = await client.in_name_of("ann").list_jobs()
    assert [job.description for job in second.jobs] == ["", "new"]
    assert second.jobs[0] is first.jobs[0]
    kernel.replies["ListJobs"] = pb.ListJobsResponse(jobs=names[:1])
    assert [job.job_id for job in (await client.list_jobs()).jobs] == ["a"]


async def test_a_batch_answers_item_by_item(kernel: FakeKernel, client: KernelClient) -> None:
    """Each order of a batch has its own outcome: an answer, or the error of a trigger of its own with its data."""
    details = ErrorDetails(reason="JOB_NOT_FOUND", metadata={"near": "y"})
    ((_, refusal),) = write_details(grpc.StatusCode.NOT_FOUND, "no job has the id 'x'", details)
    items = [pb.TriggerRunsItem(response=pb.TriggerRunResponse(run_id="run_1")), pb.TriggerRunsItem(status=refusal)]
    kernel.replies["TriggerRuns"] = pb.TriggerRunsResponse(items=items)
    started, error = await client.trigger_many([TriggerOrder(job_id="a"), TriggerOrder(job_id="x")])
    assert isinstance(started, Triggered)
    assert isinstance(error, NotFound)
    assert (error.message, error.reason, error.metadata) == ("no job has the id 'x'", "JOB_NOT_FOUND", {"near": "y"})


async def test_the_sync_client_does_the_same(kernel: FakeKernel) -> None:
    """The synchronous facade triggers, lists and streams from a thread without a loop."""
    kernel.runs["run_1"] = make_run("run_1", "SUCCEEDED")
    await kernel.say(b"hello")

    def work() -> tuple[str, list[str], list[str]]:
        with SyncKernelClient(kernel.address) as client:
            started = client.trigger("nightly")
            lines = [line.message for line in client.read_logs("run_1", follow=True)]
            runs = [run.run_id for run in client.list_runs()]
            with pytest.raises(NotFound):
                client.get_run("run_none")
        client.close()
        return started.run_id, lines, runs

    assert await asyncio.to_thread(work) == ("run_1", ["hello"], ["run_1"])


def test_importing_the_client_package_loads_no_grpc() -> None:
    """Errors, values and addresses are there without gRPC."""
    code = "import sys, nomaflow.client, nomaflow.client.values; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_more_alerts_than_grpc_s_own_limit_holds_are_listed(tmp_path: Path) -> None:
    """A thousand messages have up to 8 MiB; the command ended with gRPC's words."""

    class Alerts(AlertsServiceServicer):
        async def ListMessages(self, request: Any, context: Any) -> Any:  # noqa: N802
            message = alerts_service_pb2.AlertMessage(message_id="m", body="x" * 8192)
            return alerts_service_pb2.ListMessagesResponse(messages=[message] * request.limit)

    server = grpc.aio.server()
    add_AlertsServiceServicer_to_server(Alerts(), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"unix:{tmp_path / 'a.sock'}")
    await server.start()
    address_file = alerts_address_file(tmp_path)
    address_file.parent.mkdir()
    address_file.write_text(f"unix:{tmp_path / 'a.sock'}")
    try:
        async with AlertsClient(tmp_path) as alerts:
            assert len(await alerts.list_messages(limit=1000)) == 1000
    finally:
        await server.stop(None)


@pytest.mark.parametrize("address", ["foo", "unix:", "unix:/\udcff", "tls://127.0.0.1:99999", "dns:x:1"])
async def test_an_address_of_no_known_form_is_refused_at_once(address: str) -> None:
    """It names the forms that there are, instead of trying for a while to reach it."""
    async with KernelClient(address, connect_seconds=3600) as client:
        with pytest.raises(InvalidRequest, match="no known form") as caught:
            await client.get_kernel()
    assert "tls://host:port" in caught.value.fix


@pytest.mark.parametrize("token", ["n\u00e9", "two\nlines", "\udcff"])
async def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    """As a token that is not valid, and without its text."""
    async with KernelClient("tls://127.0.0.1:1", token=token, connect_seconds=3600) as client:
        with pytest.raises(Unauthenticated, match="characters that no token has"):
            await client.get_kernel()


async def test_a_call_that_the_other_side_does_not_know_names_the_cause(tmp_path: Path) -> None:
    """The kernel is of another version, or is no kernel; its log has nothing about it."""
    server = grpc.aio.server()
    server.add_insecure_port(address := f"unix:{tmp_path}/k.sock")
    await server.start()
    try:
        async with KernelClient(address) as client:
            with pytest.raises(KernelFailed, match="does not know this call") as caught:
                await client.get_kernel()
    finally:
        await server.stop(None)
    assert "same version" in caught.value.fix
