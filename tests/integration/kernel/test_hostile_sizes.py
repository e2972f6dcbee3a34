"""Messages that are small on the wire and large in memory: a kernel keeps none of them."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
from kernel_process import DEADLINE, ScriptedHost, lasting_kernel

from doors import create_token, doors_of, join_as_host, tls_channel
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import event_pb2, run_pb2
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_api.v1.job_pb2 import Problem, RefusedLoad
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.letters import AttemptReport
from nomaflow_api.v1.sealing import seal
from real_system import address_of
from waiting import eventually


async def test_requests_of_countless_parts_are_refused_one_after_the_other() -> None:
    """Each of 4 MB takes more than 100 MiB once it is decoded: those that are answered at once would all be there."""
    values = [run_pb2.StepValues()] * 2_000_000
    hostile = kernel.ReplayRunRequest(run_id="run_" + "0" * 26, step_values=values).SerializeToString()
    with lasting_kernel() as running:
        async with grpc.aio.insecure_channel(address_of(running.project)) as own:
            replay = own.unary_unary("/nomaflow_api.v1.KernelService/ReplayRun")
            before = _most_memory(running.pid)
            calls = [replay(hostile, timeout=DEADLINE) for _ in range(10)]
            assert {await call.code() for call in calls} == {grpc.StatusCode.INVALID_ARGUMENT}
            assert "more than 100,000 messages and values" in await calls[0].details()
            assert _most_memory(running.pid) - before < 400 * 2**20


def _most_memory(pid: int) -> int:
    """Return the most memory that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def test_an_idle_session_keeps_nothing_of_its_last_message() -> None:
    """Each may take some 15 MiB: with a hundred sessions, a host could take gigabytes for good."""
    load = gateway.LoadState(refused=RefusedLoad(message="x" * 3_500_000, problems=[Problem()] * 90_000))
    with lasting_kernel() as running:
        process = psutil.Process(running.pid)
        async with grpc.aio.insecure_channel(address_of(running.project)) as own:
            reader: Any = KernelServiceStub(own)

            async def taken(number: int) -> bool:
                asked = event_pb2.ListEventsRequest(kinds=["host.reload_refused"])
                return len((await reader.ListEvents(asked, timeout=DEADLINE)).events) == number

            hosts = [ScriptedHost() for _ in range(20)]
            for host in hosts:
                await host.attach(own)
            before = process.memory_info().rss
            for number, host in enumerate(hosts, 1):
                await host.say(gateway.AttachRequest(load_state=load))
                await eventually(partial(taken, number))
            assert process.memory_info().rss - before < 150 * 2**20
            for host in hosts:
                await host.leave()


async def test_an_idle_stream_of_triggers_keeps_nothing_of_its_last_message() -> None:
    """A caller may have fifty of them."""
    values = [run_pb2.StepValues()] * 90_000
    large = kernel.TriggerRunRequest(job_id="none", step_values=values, params_json=b" " * 3_500_000)
    hostile = [{"number": 1, "request": large}]
    with lasting_kernel() as running:
        process = psutil.Process(running.pid)
        async with grpc.aio.insecure_channel(address_of(running.project)) as own:
            streams = [KernelServiceStub(own).StreamTriggers(timeout=DEADLINE) for _ in range(20)]
            before = process.memory_info().rss
            for stream in streams:
                await stream.write(kernel.StreamTriggersRequest(items=hostile))
                assert [item.status != b"" for item in (await stream.read()).items] == [True]
            assert process.memory_info().rss - before < 150 * 2**20
            for stream in streams:
                stream.cancel()


async def test_an_idle_stream_of_reports_keeps_nothing_of_its_last_message() -> None:
    """A host may have hundreds of them."""
    with lasting_kernel() as running:
        process = psutil.Process(running.pid)
        async with grpc.aio.insecure_channel(address_of(running.project)) as own:
            host = ScriptedHost()
            await host.attach(own)
            before = process.memory_info().rss
            streams = [await _reports_at_length(own, host, 1, first) for first in range(1, 41)]
            assert process.memory_info().rss - before < 80 * 2**20
            for stream in streams:
                stream.cancel()
            await host.leave()


async def test_a_host_on_tcp_may_report_more_than_its_session_may_carry() -> None:
    """Its log is limited by what the kernel can commit, and not by the quota for what hosts say of themselves."""
    with lasting_kernel("--address", "tls://127.0.0.1:0") as running:
        doors = doors_of(running)
        secret = await create_token(doors, kind=access.TOKEN_KIND_HOST, name="team")
        identity, _ = await join_as_host(doors, JoinString.decode(secret).secret)
        async with tls_channel(doors.hosts, doors.authorities, identity=identity) as channel:
            host = ScriptedHost()
            await host.attach(channel)
            (await _reports_at_length(channel, host, 12, 1)).cancel()  # 43 MB, where 16 MiB and 2 a second are allowed
            await host.leave()


async def test_requests_of_one_caller_do_not_come_all_at_once() -> None:
    """Each has 4 MB, and they are refused once they are there: a caller may have five hundred calls at once."""
    with lasting_kernel("--address", "tls://127.0.0.1:0") as running:
        doors = doors_of(running)
        secret = await create_token(doors, kind=access.TOKEN_KIND_USER, name="ann", grants=["read job:none"])
        told = (("authorization", f"Bearer {secret}"),)
        request = kernel.ListRunsRequest(page_token="x" * 4_000_000).SerializeToString()
        async with tls_channel(doors.clients, doors.authorities) as channel:
            listed = channel.unary_unary("/nomaflow_api.v1.KernelService/ListRuns")
            before = _most_memory(running.pid)
            calls = [listed(request, timeout=DEADLINE, metadata=told) for _ in range(80)]
            codes = {await call.code() for call in calls}
            assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT}
            assert _most_memory(running.pid) - before < 120 * 2**20


async def _reports_at_length(channel: grpc.aio.Channel, host: ScriptedHost, count: int, first: int) -> Any:
    """Send reports of 3.6 MB each of an attempt that the kernel does not know, one after another on one stream."""
    told = AttemptReport(attempt_key="run_none/a/1", first_seq=1, events=tuple(b"x" * 90_000 for _ in range(40)))
    report = {"host": host.name, "incarnation": host.incarnation, "epoch": host.epoch, "attempts": seal([told])}
    stream = HostGatewayServiceStub(channel).StreamReports(timeout=DEADLINE)
    for number in range(first, first + count):
        await stream.write(gateway.StreamReportsRequest(**report, number=number))
        async with asyncio.timeout(DEADLINE):
            assert (await host.answers.get()).number == number
    return stream
