"""Streams: nothing is lost or doubled where a kernel goes away in the middle."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import grpc
import pytest

from fake_kernel import FakeKernel, Refusal, make_run
from nomaflow.client import FixedAddress, KernelClient, NotFound, Refused
from nomaflow.client.connection import Connection
from nomaflow.client.values import EventView, LogLine, RunView
from nomaflow_api.v1 import event_pb2, log_pb2
from nomaflow_api.v1 import kernel_service_pb2 as pb
from waiting import eventually


def _events(count: int) -> list[event_pb2.Event]:
    return [event_pb2.Event(seq=seq, kind="attempt.started", run_id="run_1") for seq in range(1, count + 1)]


async def test_a_watch_goes_on_after_every_break(kernel: FakeKernel, client: KernelClient) -> None:
    """A stream that breaks after each two events still gives each event once, in order."""
    kernel.runs["run_1"] = make_run()
    kernel.events = _events(5)
    await kernel.finish("run_1")
    kernel.break_stream_after = 2
    items = [item async for item in client.watch_run("run_1")]
    assert [item.seq for item in items if isinstance(item, EventView)] == [1, 2, 3, 4, 5, 6]
    assert isinstance(items[0], RunView)
    assert [request.after_seq for request in kernel.requests["WatchRun"]] == [0, 2, 4, 6]


async def test_a_log_is_followed_across_a_restart(kernel: FakeKernel) -> None:
    """Lines written before, during and after an outage come once each, and the client says when it was away."""
    heard: list[bool] = []
    kernel.runs["run_1"] = make_run()
    await kernel.say(b"before")
    seen: asyncio.Queue[LogLine] = asyncio.Queue()
    async with KernelClient(kernel.address, retry_seconds=20, on_connected=heard.append) as client:

        async def follow() -> None:
            async for line in client.read_logs("run_1", follow=True):
                seen.put_nowait(line)

        following = asyncio.create_task(follow())
        assert (await seen.get()).message == "before"
        await kernel.stop()
        await kernel.say(b"during")
        await kernel.start()
        assert (await seen.get()).message == "during"
        await kernel.say(b"after")
        assert (await seen.get()).message == "after"
        await kernel.finish("run_1")
        await following
    assert seen.empty()
    assert heard == [False, True]


async def test_one_stream_too_many_is_refused_unless_it_goes_on(kernel: FakeKernel, client: KernelClient) -> None:
    """The kernel may count a stream that has broken for a while: its successor waits. A new one would wait for ever."""
    too_many = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "two streams are open; close one", reason="QUOTA")
    kernel.runs["run_1"] = make_run()
    kernel.events = _events(3)
    await kernel.finish("run_1")
    kernel.refusals["WatchRun"] = [too_many]
    with pytest.raises(Refused, match="close one"):
        await anext(client.watch_run("run_1"))
    kernel.break_stream_after = 2
    seen = []
    async for item in client.watch_run("run_1"):
        if isinstance(item, EventView):
            seen.append(item.seq)
            kernel.refusals["WatchRun"] = [too_many] if item.seq == 2 else []
    assert seen == [1, 2, 3, 4]


async def test_a_stream_that_ends_early_is_opened_again(kernel: FakeKernel, client: KernelClient) -> None:
    """A follow ends with the run, not with the stream: streams may also end because they are old."""
    kernel.runs["run_1"] = make_run()
    await kernel.say(b"one")
    following = client.read_logs("run_1", follow=True)
    assert (await anext(following)).seq == 1
    await kernel.say(b"two")
    assert (await anext(following)).seq == 2
    await kernel.finish("run_1")
    with pytest.raises(StopAsyncIteration):
        await anext(following)


async def test_a_followed_tail_loses_no_line_of_an_outage(kernel: FakeKernel, client: KernelClient) -> None:
    """All that came while the kernel was away is read, not only its last lines, though the tail had no wanted line."""
    kernel.runs["run_1"] = make_run(log_lines=5)
    kernel.lines = [log_pb2.LogLine(seq=n, level=20, message=b"x") for n in range(1, 6)]
    following = client.read_logs("run_1", follow=True, tail=2, min_level=40)
    first = asyncio.ensure_future(anext(following))
    await eventually(lambda: any(request.follow for request in kernel.requests["ReadLogs"]))
    await kernel.stop()
    kernel.lines += [log_pb2.LogLine(seq=n, level=40, message=b"x") for n in range(6, 11)]
    await kernel.finish("run_1")
    await kernel.start()
    assert [(await first).seq, *[line.seq async for line in following]] == [6, 7, 8, 9, 10]


async def test_a_followed_tail_begins_with_the_last_lines(kernel: FakeKernel, client: KernelClient) -> None:
    """Then come those that are logged later."""
    kernel.runs["run_1"] = make_run(log_lines=5)
    kernel.lines = [log_pb2.LogLine(seq=n, level=20, message=b"x") for n in range(1, 6)]
    following = client.read_logs("run_1", follow=True, tail=2)
    found = [(await anext(following)).seq, (await anext(following)).seq]
    await kernel.say(b"later")
    found.append((await anext(following)).seq)
    assert found == [4, 5, 6]
    await following.aclose()


async def test_a_stream_that_breaks_after_a_long_silence_is_tried_again(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time for retries counts from the break, not from the last message before it."""
    now = 0.0
    kernel.runs["run_1"] = make_run()
    monkeypatch.setattr("nomaflow.client.connection.time", SimpleNamespace(monotonic=lambda: now))
    connection = Connection(source=FixedAddress(address=kernel.address), connect_seconds=5, retry_seconds=5)
    stream = connection.stream("WatchRun", pb.WatchRunRequest(run_id="run_1"))
    await anext(stream)
    following = asyncio.ensure_future(anext(stream))
    now = 1000.0
    await kernel.stop()
    await kernel.start()
    assert (await following).snapshot.run_id == "run_1"
    await stream.aclose()
    await connection.close()


async def test_any_bytes_of_a_line_survive(kernel: FakeKernel, client: KernelClient) -> None:
    """Bytes that are no UTF-8 come as lone surrogates, from which they can be had again."""
    kernel.runs["run_1"] = make_run(state="SUCCEEDED")
    await kernel.say(b"caf\xc3\xa9 \xff\x00\x1b[31m")
    [line] = [line async for line in client.read_logs("run_1")]
    assert line.message.encode("utf-8", "surrogateescape") == b"caf\xc3\xa9 \xff\x00\x1b[31m"


async def test_a_limited_read_ends_after_its_lines_whatever_breaks(kernel: FakeKernel, client: KernelClient) -> None:
    """Lines that were read before a break count."""
    kernel.runs["run_1"] = make_run(state="SUCCEEDED")
    kernel.lines = [log_pb2.LogLine(seq=n, message=b"x") for n in range(1, 10)]
    kernel.break_stream_after = 2
    assert [line.seq async for line in client.read_logs("run_1", limit=4)] == [1, 2, 3, 4]
    assert [request.limit for request in kernel.requests["ReadLogs"]] == [4, 2]


async def test_chunks_of_a_log_go_on_after_a_break(kernel: FakeKernel, client: KernelClient) -> None:
    """No chunk comes twice, none is left out, also where the first begins before the line that was asked for."""
    kernel.chunks = [log_pb2.LogChunk(first_seq=n, line_count=10, levels=4, body=b"x") for n in range(1, 51, 10)]
    kernel.break_stream_after = 2
    found = [chunk async for block in client.read_log_chunks("run_1", after_seq=5, levels=4) for chunk in block]
    assert [(chunk.first_seq, chunk.last_seq) for chunk in found] == [(n, n + 9) for n in range(1, 51, 10)]
    assert [request.after_seq for request in kernel.requests["ReadLogChunks"]] == [5, 20, 40]


async def test_wait_returns_the_outcome(kernel: FakeKernel, client: KernelClient) -> None:
    """Waiting ends when the run is terminal, with the run as it then is."""
    kernel.runs["run_1"] = make_run()
    waiting = asyncio.create_task(client.wait("run_1"))
    await kernel.requested("WatchRun")
    await kernel.finish("run_1", "FAILED")
    assert (await waiting).state == "FAILED"


async def test_watching_what_is_not_there_is_an_error(client: KernelClient) -> None:
    """An unknown run ends the watch at once."""
    with pytest.raises(NotFound, match="no run 'run_x'"):
        await client.wait("run_x")


async def test_events_from_now_on_lose_none(kernel: FakeKernel, client: KernelClient) -> None:
    """A watch of future events starts after the newest one, and resumes there after an early outage."""
    kernel.runs["run_1"] = make_run()
    kernel.events = _events(3)
    watching = client.watch_events()
    first = asyncio.ensure_future(anext(watching))
    await kernel.requested("WatchEvents")
    await kernel.stop()
    await kernel.finish("run_1")
    await kernel.start()
    assert (await first).seq == 4
    await watching.aclose()


async def test_a_watch_from_two_places_is_the_kernels_to_refuse(kernel: FakeKernel, client: KernelClient) -> None:
    """The client sends both, and follows neither silently."""
    kernel.events = _events(3)
    watching = client.watch_events(after_seq=1, from_start=True)
    await anext(watching)
    await watching.aclose()
    (request,) = kernel.requests["WatchEvents"]
    assert (request.after_seq, request.from_start) == (1, True)
