"""Clients that are closed, interrupted, forked, or used in another event loop than their own."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from fake_kernel import FakeKernel, make_run
from nomaflow.client import ClientUnusable, KernelClient, SyncKernelClient
from nomaflow.client.alerts import AlertsClient, AlertsUnreachable, alerts_address_file
from nomaflow_api.v1.alerts_service_pb2_grpc import AlertsServiceServicer, add_AlertsServiceServicer_to_server
from waiting import eventually

NOWHERE = "unix:/nowhere/kernel.sock"


async def test_a_closed_client_refuses_calls(kernel: FakeKernel) -> None:
    """Both clients, for calls and streams, without a coroutine that is never awaited."""
    client = KernelClient(kernel.address)
    await client.close()
    with pytest.raises(ClientUnusable, match="closed"):
        await client.get_run("run_1")
    with pytest.raises(ClientUnusable, match="closed"):
        await anext(client.watch_events(from_start=True))

    def work() -> None:
        closed = SyncKernelClient(kernel.address)
        closed.close()
        with pytest.raises(ClientUnusable, match="closed"):
            closed.get_run("run_1")
        with pytest.raises(ClientUnusable, match="closed"):
            next(closed.watch_events(from_start=True))

    await asyncio.to_thread(work)


async def test_a_close_ends_what_waits_and_says_so(kernel: FakeKernel) -> None:
    """Whoever waits gets an error, not the cancel of a task that nobody has canceled."""
    kernel.runs["run_1"] = make_run("run_1")
    client = KernelClient(kernel.address)
    items = client.watch_run("run_1")
    await anext(items)
    waiting = asyncio.create_task(anext(items))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(ClientUnusable, match="closed"):
        await waiting


async def test_a_call_of_the_alerts_that_loses_its_channel_says_so(tmp_path: Path) -> None:
    """By a close, or since another call has found another address: an error, not the cancel of a task either."""
    asked = asyncio.Event()

    class Alerts(AlertsServiceServicer):
        async def GetAlerts(self, request: Any, context: Any) -> Any:  # noqa: N802
            asked.set()
            await asyncio.Event().wait()

    server = grpc.aio.server()
    add_AlertsServiceServicer_to_server(Alerts(), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"unix:{tmp_path / 'a.sock'}")
    await server.start()
    file = alerts_address_file(tmp_path)
    file.parent.mkdir()
    try:
        for error in (ClientUnusable, AlertsUnreachable):
            file.write_text(f"unix:{tmp_path / 'a.sock'}")
            asked.clear()
            async with AlertsClient(tmp_path) as client:
                waiting = asyncio.create_task(client.get_alerts())
                await asked.wait()
                if error is ClientUnusable:
                    await client.close()
                else:
                    file.write_text(f"unix:{tmp_path / 'b.sock'}")
                    with pytest.raises(AlertsUnreachable):
                        await client.get_alerts()
                with pytest.raises(error):
                    await waiting
    finally:
        await server.stop(None)


async def test_a_close_ends_the_calls_of_other_threads() -> None:
    """A call that waits for a kernel to come back ends too; it used to wait for ever."""
    client = SyncKernelClient(NOWHERE, connect_seconds=3600)
    ended: list[BaseException] = []

    def call() -> None:
        try:
            client.get_kernel()
        except ClientUnusable as error:
            ended.append(error)

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    await eventually(lambda: asyncio.all_tasks(client._loop))
    await asyncio.to_thread(client.close)
    await asyncio.to_thread(caller.join, 10)
    assert len(ended) == 1


async def test_an_iterator_that_was_left_outlives_its_client(kernel: FakeKernel) -> None:
    """Closing the client has closed it; its own end is no error."""
    kernel.runs["run_1"] = make_run("run_1")

    def work() -> None:
        client = SyncKernelClient(kernel.address)
        items: Any = client.watch_run("run_1")
        assert next(items).run_id == "run_1"
        client.close()
        items.close()

    await asyncio.to_thread(work)


async def test_an_iterator_may_be_collected_in_the_clients_own_thread(kernel: FakeKernel) -> None:
    """A cycle of garbage is collected wherever the collector happens to run."""
    kernel.runs["run_1"] = make_run("run_1")

    async def collect() -> int:
        return gc.collect()

    def work() -> None:
        with SyncKernelClient(kernel.address) as client:
            gc.disable()
            try:
                cycle: list[Any] = [client.watch_run("run_1")]
                cycle.append(cycle)
                next(cycle[0])
                del cycle
                assert client.run(collect()) > 0
            finally:
                gc.enable()
            assert client.get_run("run_1").run_id == "run_1"

    await asyncio.to_thread(work)


_INTERRUPTED = """
import signal
import sys
from nomaflow.client import SyncKernelClient
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have its background processes ignore it
client = SyncKernelClient(sys.argv[1])
try:
    for line in client.read_logs("run_1", follow=True):
        print(line.message, flush=True)
except KeyboardInterrupt:
    print(client.get_run("run_1").state, flush=True)
client.close()
"""


async def test_an_interrupt_of_a_followed_log_is_an_interrupt(kernel: FakeKernel) -> None:
    """Ctrl-C reaches the caller as KeyboardInterrupt, and the client goes on; an error about its iterator hid it."""
    kernel.runs["run_1"] = make_run("run_1")
    await kernel.say(b"hello")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _INTERRUPTED, kernel.address, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"hello\n"
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (out, err, process.returncode) == (b"RUNNING\n", b"", 0)


def test_a_client_belongs_to_the_loop_of_its_first_call(tmp_path: Path) -> None:
    """In a second loop it says so at once."""

    async def ask(client: KernelClient) -> None:
        await client.get_run("run_1")

    async def first() -> KernelClient:
        kernel = FakeKernel(tmp_path / "k.sock")
        await kernel.start()
        kernel.runs["run_1"] = make_run("run_1")
        client = KernelClient(kernel.address)
        await ask(client)
        await kernel.stop()
        return client

    client = asyncio.run(first())
    with pytest.raises(ClientUnusable, match="another event loop"):
        asyncio.run(ask(client))
    asyncio.run(client.close())


_FORKS = """
import os
import select
import signal
import sys
import threading
from nomaflow.client import ClientUnusable, SyncKernelClient


def in_a_fork(work):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, str(work()).encode())
        except ClientUnusable:
            os.write(writer, b"unusable")
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 99).decode() if select.select([reader], [], [], 20)[0] else "no answer"
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return answer


def state(client):
    return client.get_run("run_1").state


def of_its_own():
    with SyncKernelClient(sys.argv[1]) as own:
        return state(own)


client = SyncKernelClient(sys.argv[1])
print(in_a_fork(lambda: state(client)))
print(state(client))
print(in_a_fork(lambda: state(client)))
print(in_a_fork(of_its_own))
busy = True


def use():
    while busy:
        state(client)


user = threading.Thread(target=use)
user.start()
print({in_a_fork(client.close) for _ in range(200)})
busy = False
user.join()
print(state(client))
client.close()
"""


async def test_a_forked_process_is_told_that_grpc_does_not_work_in_it(kernel: FakeKernel) -> None:
    """With the parent's client, used or not, or one of its own; calls would wait for ever. An inherited one closes.

    So it does while another thread is in a call, where gRPC's own handlers of a fork held some of the children.
    """
    kernel.runs["run_1"] = make_run("run_1")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _FORKS, kernel.address, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert out.decode().split() == ["unusable", "RUNNING", "unusable", "unusable", "{'None'}", "RUNNING"], err.decode()
    assert process.returncode == 0
