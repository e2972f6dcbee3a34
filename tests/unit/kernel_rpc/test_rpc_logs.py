"""Logs: lines in order, from either end, and as they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from msgspec import structs
from rpc_histories import begin, chunk, finish
from rpc_world import RUN_ID, World

from nomaflow.client.values import LogChunk, LogLine
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import log_pb2
from nomaflow_api.v1.letter_words import LogCodec
from nomaflow_api.v1.log_lines import encode_line
from nomaflow_api.v1.message_codec import decode
from nomaflow_kernel.access.principals import OWNER, Caller
from nomaflow_kernel.rpc import log_reading
from waiting import eventually


async def texts(world: World, **query: object) -> list[str]:
    """Return the text of every line that a query gives."""
    call = world.client.ReadLogs(kernel.ReadLogsRequest(run_id=RUN_ID, **query), timeout=10)
    return [line.message.decode() async for block in call for line in block.lines]


async def test_logs_are_filtered_and_come_in_bounded_blocks(world: World) -> None:
    """Logs start after a line, by level, or at the last ones; a message has at most 512 lines."""
    await begin(world)
    await world.apply(chunk(1, *[f"l{number}" for number in range(1, 1201)]))
    await world.apply(chunk(1201, "warned", level=30), chunk(1202, "end"))
    call = world.client.ReadLogs(kernel.ReadLogsRequest(run_id=RUN_ID), timeout=10)
    blocks = [[line.seq for line in block.lines] async for block in call]
    assert [seq for block in blocks for seq in block] == list(range(1, 1203))
    assert max(map(len, blocks)) == 512
    assert await texts(world, after_seq=1199) == ["l1200", "warned", "end"]
    assert await texts(world, min_level=30) == ["warned"]
    assert await texts(world, tail=2) == ["warned", "end"]
    assert await texts(world, tail=5, min_level=30) == ["warned"]


async def test_a_window_of_a_log_is_read_from_either_end(world: World) -> None:
    """Lines before one, the last so many before one, and the first so many after one, also of one level or try."""
    await begin(world)
    for first in range(1, 101, 10):
        await world.apply(chunk(first, *[f"l{n}" for n in range(first, first + 10)], level=30 if first == 41 else 20))
    assert await texts(world, before_seq=3) == ["l1", "l2"]
    assert await texts(world, before_seq=51, tail=3) == ["l48", "l49", "l50"]
    assert (await texts(world, before_seq=52, tail=12))[0] == "l40"
    assert await texts(world, after_seq=49, before_seq=53) == ["l50", "l51", "l52"]
    assert await texts(world, after_seq=49, limit=2) == ["l50", "l51"]
    assert await texts(world, after_seq=7, limit=5) == ["l8", "l9", "l10", "l11", "l12"]
    assert await texts(world, min_level=30, limit=2) == ["l41", "l42"]
    assert await texts(world, min_level=30, tail=2) == ["l49", "l50"]
    assert await texts(world, min_level=30, tail=2, before_seq=45) == ["l43", "l44"]
    assert await texts(world, attempt=2) == []
    assert len(await texts(world, attempt=1)) == 100
    assert await texts(world, after_seq=2**64 - 1) == []
    assert len(await texts(world, before_seq=2**64 - 1)) == 100


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"follow": True, "limit": 1}, "limit"),
        ({"follow": True, "before_seq": 1}, "before_seq"),
        ({"tail": 1, "limit": 1}, "limit"),
        ({"tail": 10_001}, "tail"),
    ],
)
async def test_a_window_that_makes_no_sense_is_refused(world: World, query: dict[str, Any], field: str) -> None:
    """A log that grows has no last line; one of two counts would be ignored."""
    await begin(world)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await texts(world, **query)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (refused.value.details() or "")


@pytest.mark.parametrize("call", ["ReadLogs", "ReadLogChunks"])
async def test_a_step_that_the_run_does_not_have_is_refused(world: World, call: str) -> None:
    """An empty log would say that the step has written nothing."""
    await begin(world)
    kind = {"ReadLogs": kernel.ReadLogsRequest, "ReadLogChunks": log_pb2.ReadLogChunksRequest}[call]
    for step, hint in (("A", "did you mean 'a'?"), ("nowhere", "it has 'a'")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await getattr(world.client, call)(kind(run_id=RUN_ID, step=step), timeout=10).read()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == f"run {RUN_ID} has no step {step!r}; {hint}"


async def test_a_follower_that_begins_at_the_tail_misses_no_line_and_repeats_none(world: World) -> None:
    """Lines that come while the tail is read are part of what follows."""
    await begin(world)
    await world.apply(chunk(1, "a", "b", level=30), chunk(3, "c"))
    follower = aiter(world.client.ReadLogs(kernel.ReadLogsRequest(run_id=RUN_ID, follow=True, tail=1, min_level=30)))
    assert [line.seq for line in (await anext(follower)).lines] == [2]
    await world.apply(chunk(4, "d", level=30), finish())
    assert [line.seq async for block in follower for line in block.lines] == [4]


async def test_a_tail_of_large_lines_is_not_in_memory_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a host's chunks of 1 KiB may be a line of 2 MiB once it is unpacked, and a tail has up to 10,000."""
    await begin(world)
    await world.apply(*(chunk(number, "x" * 2**19) for number in range(1, 25)))
    made, matching = [], log_reading._matching

    def counted(*arguments: Any) -> Iterator[log_pb2.LogLine]:
        for line in matching(*arguments):
            made.append(line.seq)
            yield line

    monkeypatch.setattr(log_reading, "_matching", counted)
    call = log_reading.LogCalls(world.parts).read_logs(
        kernel.ReadLogsRequest(run_id=RUN_ID, tail=20), Caller(principal=OWNER, peer="unix:")
    )
    blocks = aiter(call)
    assert [line.seq for line in (await anext(blocks)).lines] == made == [5]
    assert [line.seq async for block in blocks for line in block.lines] == list(range(6, 25))


async def test_a_log_is_read_as_it_is_stored(world: World) -> None:
    """Chunks hold the lines that ReadLogs gives; heads are the same without them; the filters are those of lines."""
    await begin(world)
    await world.apply(chunk(1, *["same"] * 300), chunk(301, "w", level=30), chunk(302, "x", "y", broken=True))

    async def chunks(**query: Any) -> list[LogChunk]:
        call = world.client.ReadLogChunks(log_pb2.ReadLogChunksRequest(run_id=RUN_ID, **query), timeout=10)
        return [LogChunk.of(chunk) async for block in call for chunk in block.chunks]

    whole = await chunks()
    assert [(each.first_seq, each.last_seq, each.step, each.attempt) for each in whole] == [
        (1, 300, "a", 1), (301, 301, "a", 1), (302, 303, "a", 1),
    ]  # fmt: skip
    assert whole[0].compressed
    assert whole[0].raw_lines() == [b'[20,1,"l","same"]'] * 300
    read = world.client.ReadLogs(kernel.ReadLogsRequest(run_id=RUN_ID), timeout=10)
    lines = [decode(LogLine, line) async for block in read for line in block.lines]
    assert [line for each in whole for line in each.lines()] == lines
    assert await chunks(without_body=True) == [replace(each, body=b"") for each in whole]
    assert [each.first_seq for each in await chunks(levels=1 << 3)] == [301]
    assert await chunks(levels=1 << 9) == []
    assert [each.first_seq for each in await chunks(after_seq=299, before_seq=302)] == [1, 301]
    assert await chunks(attempt=2) == []


async def test_large_lines_do_not_make_large_messages(world: World) -> None:
    """A block ends at 256 KiB whatever the number of its lines."""
    await begin(world)
    await world.apply(chunk(1, *["x" * 60_000] * 30))
    call = world.client.ReadLogs(kernel.ReadLogsRequest(run_id=RUN_ID), timeout=10)
    sizes = [block.ByteSize() async for block in call]
    assert max(sizes) < 400_000
    assert sum(sizes) > 1_800_000


async def test_a_chunk_that_cannot_be_read_is_told_and_passed_over(world: World) -> None:
    """One line says how many are missing; the log continues after them with its own numbers."""
    await begin(world)
    await world.apply(chunk(1, "a"), chunk(2, "b", "c", broken=True), chunk(4, "d"))
    call = world.client.ReadLogs(kernel.ReadLogsRequest(run_id=RUN_ID), timeout=10)
    lines = [(line.seq, line.message.decode()) async for block in call for line in block.lines]
    assert lines[0] == (1, "a")
    assert lines[1][0] == 2
    assert "2 lines cannot be read" in lines[1][1]
    assert lines[2:] == [(4, "d")]


@pytest.mark.parametrize(
    "bad",
    [
        b'[Infinity,1,"a","x"]',
        b'[1e999,1,"a","x"]',
        b"[" * 100_000,
        b'[20,9223372036854775807,"a","x"]',
        b'[20,-9223372036854775808,"a","x"]',
        b'[20,1,"a","\\ud800"',
        b"",
    ],
    ids=["infinity", "1e999", "brackets", "late", "early", "cut", "empty"],
)
async def test_one_bad_line_is_shown_as_bad_and_the_others_stay_readable(world: World, bad: bytes) -> None:
    """A host may send anything as a line: what follows it keeps its number and its text, for every reader."""
    await begin(world)
    lines = [encode_line(20, 5, "a", "before").strip(), bad, encode_line(20, 7, "a", "after").strip()]
    whole = chunk(1, "before", "bad", "after")
    body = b"\n".join(lines) + b"\n"
    await world.apply(structs.replace(whole, chunk=structs.replace(whole.chunk, body=body, codec=LogCodec.JSONL)))
    call = world.client.ReadLogs(kernel.ReadLogsRequest(run_id=RUN_ID), timeout=10)
    read = [line async for block in call for line in block.lines]
    assert [line.seq for line in read] == [1, 2, 3]
    assert [line.message for line in read][::2] == [b"before", b"after"]
    assert read[1].message.startswith(b"this line cannot be read: expected a log line")
    assert (read[1].logger, read[1].level, read[1].at_us) == ("nomaflow.kernel", 40, 5)


async def test_a_follower_is_woken_by_lines_that_have_no_event(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine wakes it after its commit, and the end of the run does: it need not wait for the next poll."""
    monkeypatch.setattr(log_reading, "_RECHECK_SECONDS", 3600.0)
    await begin(world)
    follower = aiter(world.client.ReadLogs(kernel.ReadLogsRequest(run_id=RUN_ID, follow=True)))
    await eventually(lambda: world.feed.watcher_count == 1)
    for number in range(1, 4):
        await world.apply(chunk(number, f"l{number}"))
        world.feed.touch_log(RUN_ID)
        async with asyncio.timeout(60):
            assert [line.seq for line in (await anext(follower)).lines] == [number]
    await world.apply(chunk(4, "last"), finish())
    async with asyncio.timeout(60):
        assert [line.seq async for block in follower for line in block.lines] == [4]
