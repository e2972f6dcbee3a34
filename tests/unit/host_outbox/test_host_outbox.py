"""The outbox: order, batches, acknowledgements, spilling, memory of keys."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nomaflow_host.attempts import AttemptOrder, Finished, FinishedState, LogChunk, Progress, Started
from nomaflow_host.outbox import MAX_BATCH_BYTES, MAX_EVENT_BYTES, AckKind, Batch, Outbox, SpillStore
from nomaflow_host.outbox.spill import Segment

KEY = "run_1/one/1"


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def encode(event: Any) -> bytes:
    if isinstance(event, LogChunk):
        return event.body
    if isinstance(event, Progress):
        return f"progress {event.done:g}".encode()
    if isinstance(event, Started):
        return f"started {event.worker_pid}".encode()
    return b"finished " + event.state.value.encode() + b" " + event.reason_code.encode() + b" " + event.extras_json


def order(key: str = KEY, **more: Any) -> AttemptOrder:
    run, step, attempt = key.split("/")
    return AttemptOrder(
        attempt_key=key, epoch=1, run_id=run, job_id="job", step=step, attempt=int(attempt), callable="m:f", **more
    )


def chunk(body: bytes) -> LogChunk:
    return LogChunk(line_count=1, first_at_us=0, last_at_us=0, levels=2, compressed=False, body=body)


def started(pid: int = 7) -> Started:
    return Started(at_us=0, worker_pid=pid, generation=1, exclusive=False)


def finished(**more: Any) -> Finished:
    return Finished(at_us=0, **{"state": FinishedState.SUCCEEDED, **more})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Outbox]]:
    made: list[Outbox] = []

    def factory(**caps: int) -> Outbox:
        store = SpillStore(directory=tmp_path / "spill", clock=clock, **caps)
        made.append(Outbox(store=store, encode=encode, clock=clock))
        return made[-1]

    yield factory
    for outbox in made:
        outbox.close()
        assert outbox.spilled_bytes == 0
    assert not list((tmp_path / "spill").glob("*"))


def texts(batch: Batch | None) -> dict[str, list[bytes]]:
    return {} if batch is None else {group.attempt_key: list(group.events) for group in batch.groups}


def acknowledge(outbox: Outbox, batch: Batch | None) -> None:
    assert batch is not None
    for group in batch.groups:
        outbox.acknowledge(group.attempt_key, group.first_seq + len(group.events) - 1, AckKind.OK)


def deliver_all(outbox: Outbox) -> dict[str, list[bytes]]:
    """Acknowledge batch after batch, checking that the numbers follow without a gap."""
    got: dict[str, list[bytes]] = {}
    while (batch := outbox.next_batch()) is not None:
        for group in batch.groups:
            mine = got.setdefault(group.attempt_key, [])
            assert group.first_seq == len(mine) + 1
            mine += group.events
        acknowledge(outbox, batch)
    return got


def test_events_are_numbered_and_keep_their_order(make: Callable[..., Outbox]) -> None:
    """What the supervisor says of an attempt arrives as one run of numbers, finished last."""
    outbox = make()
    assert outbox.accept(order())
    outbox.started(KEY, started())
    outbox.log(KEY, chunk(b"a"))
    outbox.log(KEY, chunk(b"b"))
    outbox.finished(KEY, finished())
    outbox.log(KEY, chunk(b"late"))
    assert outbox.inventory()[0].last_seq == 4
    assert deliver_all(outbox) == {KEY: [b"started 7", b"a", b"b", b"finished SUCCEEDED  "]}
    assert outbox.empty
    assert not outbox.inventory()


def test_what_is_not_acknowledged_is_sent_again(make: Callable[..., Outbox]) -> None:
    """A rewind repeats exactly what the kernel has not confirmed."""
    outbox = make()
    outbox.accept(order())
    for body in (b"1", b"2", b"3"):
        outbox.log(KEY, chunk(body))
    assert texts(outbox.next_batch()) == {KEY: [b"1", b"2", b"3"]}
    assert outbox.next_batch() is None
    outbox.acknowledge(KEY, 1, AckKind.OK)
    again = outbox.next_batch()
    assert again is not None
    assert again.groups[0].first_seq == 2
    outbox.rewind(KEY, 2)
    assert texts(outbox.next_batch()) == {KEY: [b"3"]}
    outbox.rewind_all()
    assert texts(outbox.next_batch()) == {KEY: [b"3"]}


def test_a_gap_sends_from_where_the_kernel_is(make: Callable[..., Outbox]) -> None:
    """After GAP the events behind the acknowledged number come again."""
    outbox = make()
    outbox.accept(order())
    outbox.log(KEY, chunk(b"1"))
    outbox.log(KEY, chunk(b"2"))
    outbox.next_batch()
    outbox.acknowledge(KEY, 1, AckKind.GAP)
    assert texts(outbox.next_batch()) == {KEY: [b"2"]}


def test_an_answer_without_progress_is_not_repeated_in_a_tight_loop(make: Callable[..., Outbox], clock: Clock) -> None:
    """A kernel that acknowledges nothing is asked again after growing pauses."""
    outbox = make()
    outbox.accept(order())
    outbox.log(KEY, chunk(b"1"))
    pauses = []
    assert outbox.next_batch() is not None
    for _ in range(8):
        outbox.acknowledge(KEY, 0, AckKind.OK)
        before = clock.now
        while outbox.next_batch() is None:
            clock.now += 0.01
        pauses.append(clock.now - before)
    assert pauses[0] >= 0.09
    assert pauses[-1] > pauses[0]
    assert max(pauses) < 6


@pytest.mark.parametrize("kind", [AckKind.FENCED, AckKind.CONFLICT])
def test_a_fenced_attempt_is_forgotten_and_its_key_remembered(make: Callable[..., Outbox], kind: AckKind) -> None:
    """Nothing more is reported of it, its later events are swallowed, and a repeat starts nothing."""
    outbox = make()
    outbox.accept(order(retry_on_lost=True))
    outbox.log(KEY, chunk(b"1"))
    outbox.next_batch()
    holding = outbox.acknowledge(KEY, 0, kind, "not yours")
    assert holding is not None
    assert holding.retry_on_lost
    assert not outbox.inventory()
    assert [each.attempt_key for each in outbox.unfinished()] == [KEY]
    outbox.log(KEY, chunk(b"2"))
    outbox.finished(KEY, finished())
    assert outbox.next_batch() is None
    assert not list(outbox.unfinished())
    assert not outbox.accept(order())


def test_an_invalid_report_still_delivers_the_outcome(make: Callable[..., Outbox], clock: Clock) -> None:
    """Events that the kernel calls invalid are given up; what comes after is numbered on, and the outcome arrives."""
    outbox = make()
    outbox.accept(order())
    outbox.started(KEY, started())
    clock.now += 1
    acknowledge(outbox, outbox.next_batch())
    outbox.log(KEY, chunk(b"bad"))
    outbox.next_batch()
    assert outbox.acknowledge(KEY, 0, AckKind.INVALID, "nonsense") is None
    outbox.finished(KEY, finished())
    batch = outbox.next_batch()
    assert batch is not None
    assert batch.groups[0].first_seq == 2
    assert batch.groups[0].events == (b"finished SUCCEEDED  ",)


def test_an_invalid_outcome_becomes_a_failure(make: Callable[..., Outbox]) -> None:
    """Where the outcome itself is what the kernel cannot take, the attempt fails instead of hanging for ever."""
    outbox = make()
    outbox.accept(order())
    outbox.finished(KEY, finished())
    outbox.next_batch()
    outbox.acknowledge(KEY, 0, AckKind.INVALID, "nonsense")
    assert texts(outbox.next_batch()) == {KEY: [b"finished FAILED return_invalid "]}
    outbox.acknowledge(KEY, 0, AckKind.INVALID, "nonsense again")
    assert outbox.empty


def test_a_kernel_that_is_behind_what_it_confirmed_still_gets_the_outcome(make: Callable[..., Outbox]) -> None:
    """A kernel with an older copy of its history gets the outcome under the number it expects."""
    outbox = make()
    outbox.accept(order())
    for body in (b"1", b"2", b"3"):
        outbox.log(KEY, chunk(body))
    acknowledge(outbox, outbox.next_batch())
    outbox.finished(KEY, finished())
    outbox.next_batch()
    outbox.acknowledge(KEY, 1, AckKind.GAP)
    batch = outbox.next_batch()
    assert batch is not None
    assert (batch.groups[0].first_seq, len(batch.groups[0].events)) == (2, 1)


def test_a_repeated_dispatch_reports_the_state_again(make: Callable[..., Outbox], clock: Clock) -> None:
    """Running, finished or long acknowledged: the key starts nothing and its state is said once more."""
    outbox = make()
    outbox.accept(order())
    outbox.started(KEY, started())
    clock.now += 1
    acknowledge(outbox, outbox.next_batch())
    assert not outbox.accept(order())
    assert texts(outbox.next_batch()) == {KEY: [b"started 7"]}
    outbox.acknowledge(KEY, 1, AckKind.OK)
    outbox.finished(KEY, finished())
    acknowledge(outbox, outbox.next_batch())
    assert not outbox.accept(order())
    batch = outbox.next_batch()
    assert batch is not None
    assert batch.groups[0].first_seq == 2
    assert batch.groups[0].events == (b"finished SUCCEEDED  ",)
    outbox.say("run_9/never/1")
    unknown = outbox.next_batch()
    assert unknown is not None
    assert unknown.groups[0].unknown


def test_a_refused_order_may_come_again(make: Callable[..., Outbox]) -> None:
    """The refusal is reported, and once it is acknowledged the same key is taken as new."""
    outbox = make()
    assert outbox.accept(order())
    outbox.refuse(KEY, "full", at_us=1)
    assert outbox.inventory()[0].state == "FAILED"
    assert texts(outbox.next_batch()) == {KEY: [b"finished FAILED host_refused "]}
    outbox.acknowledge(KEY, 1, AckKind.OK)
    assert outbox.accept(order())


def test_progress_is_coalesced_and_the_last_one_survives(make: Callable[..., Outbox], clock: Clock) -> None:
    """At most four progress events a second are made, always of the newest; the last comes before finished."""
    outbox = make()
    outbox.accept(order())
    for step in range(100):
        outbox.progress(KEY, Progress(at_us=0, done=step))
    assert texts(outbox.next_batch()) == {KEY: [b"progress 99"]}
    outbox.acknowledge(KEY, 1, AckKind.OK)
    outbox.progress(KEY, Progress(at_us=0, done=100))
    assert outbox.next_batch() is None
    clock.now += 0.3
    assert texts(outbox.next_batch()) == {KEY: [b"progress 100"]}
    outbox.acknowledge(KEY, 2, AckKind.OK)
    outbox.progress(KEY, Progress(at_us=0, done=101))
    outbox.finished(KEY, finished())
    assert texts(outbox.next_batch()) == {KEY: [b"progress 101", b"finished SUCCEEDED  "]}


def test_batches_are_bounded_and_filled_in_turn(make: Callable[..., Outbox]) -> None:
    """A flood of one attempt leaves room for the others, and no batch is over a mebibyte."""
    outbox = make()
    for name in ("a", "b"):
        outbox.accept(order(f"run_1/{name}/1"))
    for _ in range(400):
        outbox.log("run_1/a/1", chunk(b"x" * 10_000))
    outbox.log("run_1/b/1", chunk(b"quiet"))
    first = outbox.next_batch()
    assert first is not None
    assert first.size <= MAX_BATCH_BYTES
    assert sum(len(event) for group in first.groups for event in group.events) > MAX_BATCH_BYTES * 0.9
    assert texts(first)["run_1/b/1"] == [b"quiet"]
    outbox.log("run_1/b/1", chunk(b"again"))
    assert texts(outbox.next_batch())["run_1/b/1"] == [b"again"]


def test_two_floods_share_a_batch(make: Callable[..., Outbox]) -> None:
    """Each gets about half of it, 64 KiB a round."""
    outbox = make()
    for name in ("a", "b"):
        outbox.accept(order(f"run_1/{name}/1"))
        for _ in range(400):
            outbox.log(f"run_1/{name}/1", chunk(b"x" * 10_000))
    shares = {key: sum(map(len, events)) for key, events in texts(outbox.next_batch()).items()}
    assert abs(shares["run_1/a/1"] - shares["run_1/b/1"]) <= 64 << 10


def test_an_event_larger_than_a_batch_goes_alone(make: Callable[..., Outbox]) -> None:
    """It is not split, not dropped and does not starve."""
    outbox = make()
    for name in ("a", "b"):
        outbox.accept(order(f"run_1/{name}/1"))
    outbox.log("run_1/a/1", chunk(b"small"))
    outbox.log("run_1/a/1", chunk(b"x" * (MAX_BATCH_BYTES + 1000)))
    outbox.log("run_1/b/1", chunk(b"other"))
    assert texts(outbox.next_batch()) == {"run_1/a/1": [b"small"], "run_1/b/1": [b"other"]}
    big = outbox.next_batch()
    assert big is not None
    assert [len(event) for event in big.groups[0].events] == [MAX_BATCH_BYTES + 1000]


def test_a_result_over_the_limit_becomes_a_failure(make: Callable[..., Outbox]) -> None:
    """A result that no report can carry fails the attempt with the way out."""
    outbox = make()
    outbox.accept(order())
    outbox.finished(KEY, finished(extras_json=b"x" * MAX_EVENT_BYTES, has_result=True))
    assert texts(outbox.next_batch()) == {KEY: [b"finished FAILED result_too_large "]}


def test_a_log_chunk_over_the_limit_is_a_bug_of_ours(make: Callable[..., Outbox]) -> None:
    """It is refused loudly, since dropping it would lose lines."""
    outbox = make()
    outbox.accept(order())
    with pytest.raises(ValueError, match="log chunk"):
        outbox.log(KEY, chunk(b"x" * (MAX_EVENT_BYTES + 1)))


def test_what_does_not_fit_into_memory_is_spilled_and_delivered_in_order(
    make: Callable[..., Outbox], tmp_path: Path
) -> None:
    """With the kernel away memory stays bounded, and afterwards every event arrives once, in order; files go."""
    outbox = make()
    outbox.accept(order())
    bodies = [f"{number:06d}".encode() + b"." * 50_000 for number in range(600)]
    for body in bodies:
        outbox.log(KEY, chunk(body))
    store = outbox._store
    assert store.memory_bytes <= (8 << 20) + 60_000
    assert outbox.spilled_bytes >= 20 << 20
    files = list((tmp_path / "spill").glob("*.events"))
    assert files
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    outbox.finished(KEY, finished())
    assert deliver_all(outbox)[KEY] == [*bodies, b"finished SUCCEEDED  "]
    assert not list((tmp_path / "spill").glob("*.events"))


def test_deleting_the_spill_file_loses_nothing(make: Callable[..., Outbox], tmp_path: Path) -> None:
    """Someone who cleans the folder does not hurt what is under way."""
    outbox = make(memory_cap_bytes=0)
    outbox.accept(order())
    for number in range(10):
        outbox.log(KEY, chunk(b"%d" % number))
    for file in (tmp_path / "spill").glob("*"):
        file.unlink()
    assert deliver_all(outbox)[KEY] == [b"%d" % number for number in range(10)]


def test_at_the_cap_workers_wait_exclusive_ones_first(make: Callable[..., Outbox]) -> None:
    """Nothing is dropped at the cap: reading stops, and goes on when there is room."""
    outbox = make(memory_cap_bytes=0, cap_bytes=1000)
    freed = []
    outbox.when_room(lambda: freed.append(True))
    outbox.accept(order())
    assert outbox.may_read(exclusive=True)
    outbox.log(KEY, chunk(b"x" * 950))
    assert not outbox.may_read(exclusive=True)
    assert outbox.may_read(exclusive=False)
    assert not outbox.saturated
    outbox.log(KEY, chunk(b"x" * 100))
    assert not outbox.may_read(exclusive=False)
    assert outbox.saturated
    acknowledge(outbox, outbox.next_batch())
    assert freed == [True]
    assert outbox.may_read(exclusive=True)
    assert not outbox.saturated


def test_a_full_disk_holds_workers_and_loses_nothing(
    make: Callable[..., Outbox], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While writing fails events stay in memory and reading stops; it recovers by itself."""
    outbox = make(memory_cap_bytes=0)
    outbox.accept(order())
    outbox.log(KEY, chunk(b"1"))

    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", no_space)
        patch.setattr(os, "posix_fallocate", no_space)
        outbox.log(KEY, chunk(b"2"))
        outbox.log(KEY, chunk(b"3"))
        assert outbox.saturated
        clock.now += 2
        assert not outbox.may_read(exclusive=False)
    clock.now += 2
    assert outbox.may_read(exclusive=False)
    outbox.log(KEY, chunk(b"4"))
    assert deliver_all(outbox)[KEY] == [b"1", b"2", b"3", b"4"]


def test_a_short_write_is_completed(make: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes an event in pieces gets all of it."""
    outbox = make(memory_cap_bytes=0)
    outbox.accept(order())
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, data[:3], offset))
    outbox.log(KEY, chunk(b"0123456789"))
    outbox.log(KEY, chunk(b"abcdefgh"))
    assert deliver_all(outbox)[KEY] == [b"0123456789", b"abcdefgh"]


def test_files_of_an_earlier_life_are_removed(tmp_path: Path) -> None:
    """They cannot be read by anybody any more."""
    (tmp_path / "1-1.events").write_bytes(b"old")
    SpillStore(directory=tmp_path)
    assert not list(tmp_path.glob("*.events"))


def test_old_keys_are_remembered_without_their_outcomes(make: Callable[..., Outbox]) -> None:
    """Beyond ten thousand only a fingerprint stays, and still nothing starts twice."""
    outbox = make()
    keys = [f"run_{number}/s/1" for number in range(10_050)]
    for key in keys:
        outbox.accept(order(key))
        outbox.finished(key, finished())
    delivered = deliver_all(outbox)
    assert len(delivered) == len(keys)
    assert not any(outbox.accept(order(key)) for key in keys)
    groups = []
    while (batch := outbox.next_batch()) is not None:
        groups += batch.groups
    assert len(groups) == len(keys)
    assert sum(1 for group in groups if not group.events) == 50


async def test_waiting_ends_with_the_first_event(tmp_path: Path) -> None:
    """`wait` sleeps until there is something, and by itself where only progress becomes due."""
    outbox = Outbox(store=SpillStore(directory=tmp_path), encode=encode)
    outbox.accept(order())
    waiter = asyncio.create_task(outbox.wait())
    await asyncio.sleep(0)
    assert not waiter.done()
    outbox.log(KEY, chunk(b"1"))
    await asyncio.wait_for(waiter, 1)
    acknowledge(outbox, outbox.next_batch())
    outbox.progress(KEY, Progress(at_us=0, done=1))
    acknowledge(outbox, outbox.next_batch())
    outbox.progress(KEY, Progress(at_us=0, done=2))
    assert outbox.next_batch() is None
    await asyncio.wait_for(outbox.wait(), 1)
    assert texts(outbox.next_batch()) == {KEY: [b"progress 2"]}
    outbox.close()


def test_a_truncated_spill_file_is_an_error(tmp_path: Path) -> None:
    """Data that somebody else cut off is never delivered as if it were whole."""
    store = SpillStore(directory=tmp_path)
    segment = store.open_segment(1)
    assert isinstance(segment, Segment)
    segment.append(json.dumps("x").encode())
    os.truncate(next(tmp_path.glob("*.events")), 1)
    with pytest.raises(OSError, match="truncated"):
        segment.read(1)
    segment.close()


def test_a_start_waits_a_moment_for_what_follows(make: Callable[..., Outbox], clock: Clock) -> None:
    """A step that ends at once has its start and its end in one report; a longer one reports its start by itself."""
    outbox = make()
    outbox.accept(order())
    outbox.started(KEY, started())
    assert outbox.next_batch() is None
    outbox.finished(KEY, finished())
    assert texts(outbox.next_batch()) == {KEY: [b"started 7", b"finished SUCCEEDED  "]}
    outbox.acknowledge(KEY, 2, AckKind.OK)
    outbox.accept(order("run_2/one/1"))
    outbox.started("run_2/one/1", started())
    clock.now += 0.01
    assert texts(outbox.next_batch()) == {"run_2/one/1": [b"started 7"]}
