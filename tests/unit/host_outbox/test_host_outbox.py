"""The outbox: order, batches, limits, waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from outbox_driver import KEY, Clock, acknowledge, answer, chunk, deliver_all, finished, order, started, texts

from nomaflow_api.v1.letters import Progress, Stopping
from nomaflow_api.v1.sealing import seal
from nomaflow_host.outbox.event_storage import SpillStore
from nomaflow_host.outbox.outbox import MAX_EVENT_BYTES, Outbox
from nomaflow_host.outbox.turns import MAX_BATCH_ATTEMPTS, MAX_BATCH_BYTES


def test_events_are_numbered_and_keep_their_order(make: Callable[..., Outbox]) -> None:
    """The supervisor's events of an attempt are numbered without gaps, finished last."""
    outbox = make()
    assert outbox.accept(order())
    outbox.started(KEY, started())
    outbox.log(KEY, chunk(b"a"))
    outbox.log(KEY, chunk(b"b"))
    outbox.finished(KEY, finished())
    outbox.log(KEY, chunk(b"late"))
    assert [line.attempt_key for line in outbox.inventory()] == [KEY]
    assert not outbox.empty
    assert deliver_all(outbox) == {KEY: [b"started 7", b"a", b"b", b"finished SUCCEEDED  "]}
    assert outbox.empty
    assert not outbox.inventory()


def test_progress_is_coalesced_and_the_last_one_survives(make: Callable[..., Outbox], clock: Clock) -> None:
    """Progress makes at most four events a second, always of the newest; the last comes before finished."""
    outbox = make()
    outbox.accept(order())
    for step in range(100):
        outbox.progress(KEY, Progress(at_us=0, done=step))
    assert texts(outbox.next_batch()) == {KEY: [b"progress 99"]}
    answer(outbox, 1)
    outbox.progress(KEY, Progress(at_us=0, done=100))
    assert outbox.next_batch() == []
    clock.now += 0.3
    assert texts(outbox.next_batch()) == {KEY: [b"progress 100"]}
    answer(outbox, 2)
    outbox.progress(KEY, Progress(at_us=0, done=101))
    outbox.finished(KEY, finished())
    assert texts(outbox.next_batch()) == {KEY: [b"progress 101", b"finished SUCCEEDED  "]}


def test_a_rung_is_an_event_in_its_place(make: Callable[..., Outbox]) -> None:
    """Rungs come between the lines and the progress that were reported around them, and none after the end."""
    outbox = make()
    outbox.accept(order())
    outbox.started(KEY, started())
    outbox.log(KEY, chunk(b"a"))
    outbox.progress(KEY, Progress(at_us=0, done=1))
    outbox.stopping(KEY, Stopping(at_us=0, rung=1, what="asked"))
    outbox.log(KEY, chunk(b"b"))
    outbox.stopping(KEY, Stopping(at_us=0, rung=2, what="exception"))
    outbox.finished(KEY, finished())
    outbox.stopping(KEY, Stopping(at_us=0, rung=3, what="late"))
    assert deliver_all(outbox) == {
        KEY: [b"started 7", b"a", b"progress 1", b"rung 1", b"b", b"rung 2", b"finished SUCCEEDED  "]
    }


def test_batches_are_bounded_and_filled_in_turn(make: Callable[..., Outbox]) -> None:
    """A flood of one attempt leaves room for the others, and no batch is over a mebibyte."""
    outbox = make()
    for name in ("a", "b"):
        outbox.accept(order(f"run_1/{name}/1"))
    for _ in range(400):
        outbox.log("run_1/a/1", chunk(b"x" * 10_000))
    outbox.log("run_1/b/1", chunk(b"quiet"))
    first = outbox.next_batch()
    assert len(seal(first)) <= MAX_BATCH_BYTES
    assert sum(len(event) for group in first for event in group.events) > MAX_BATCH_BYTES * 0.9
    assert texts(first)["run_1/b/1"] == [b"quiet"]
    outbox.log("run_1/b/1", chunk(b"again"))
    acknowledge(outbox, first)
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
    """An event larger than a batch is not split, not dropped and does not starve."""
    outbox = make()
    for name in ("a", "b"):
        outbox.accept(order(f"run_1/{name}/1"))
    outbox.log("run_1/a/1", chunk(b"small"))
    outbox.log("run_1/a/1", chunk(b"x" * (MAX_BATCH_BYTES + 1000)))
    outbox.log("run_1/b/1", chunk(b"other"))
    first = outbox.next_batch()
    assert texts(first) == {"run_1/a/1": [b"small"], "run_1/b/1": [b"other"]}
    acknowledge(outbox, first)
    big = outbox.next_batch()
    assert [(report.attempt_key, len(report.events)) for report in big] == [("run_1/a/1", 1)]
    assert len(big[0].events[0]) > MAX_BATCH_BYTES


def test_a_batch_takes_so_many_attempts_and_the_next_one_the_others(make: Callable[..., Outbox]) -> None:
    """Two batches may be under way, with attempts of their own; an answer to one leaves the other alone."""
    outbox = make()
    keys = [f"run_1/s{number}/1" for number in range(MAX_BATCH_ATTEMPTS + 3)]
    for key in keys:
        outbox.accept(order(key))
        outbox.log(key, chunk(b"1"))
    first, second = outbox.next_batch(), outbox.next_batch()
    assert [*texts(first)] == keys[:MAX_BATCH_ATTEMPTS]
    assert [*texts(second)] == keys[MAX_BATCH_ATTEMPTS:]
    assert outbox.next_batch() == []
    acknowledge(outbox, second)
    assert outbox.next_batch() == []
    outbox.rewind(keys[0], 0)
    assert texts(outbox.next_batch()) == {keys[0]: [b"1"]}


def test_what_comes_while_a_batch_is_under_way_waits_for_its_answer(make: Callable[..., Outbox]) -> None:
    """Events of one attempt are never in two batches at a time, so that they arrive in order."""
    outbox = make()
    outbox.accept(order())
    outbox.log(KEY, chunk(b"1"))
    first = outbox.next_batch()
    outbox.log(KEY, chunk(b"2"))
    outbox.progress(KEY, Progress(at_us=0, done=1))
    outbox.finished(KEY, finished())
    assert outbox.next_batch() == []
    acknowledge(outbox, first)
    assert texts(outbox.next_batch()) == {KEY: [b"2", b"progress 1", b"finished SUCCEEDED  "]}


def test_a_state_that_is_asked_for_is_not_told_beside_a_batch_under_way(make: Callable[..., Outbox]) -> None:
    """A repeated dispatch is answered by the report under way; if that fails, it is sent again."""
    outbox = make()
    outbox.accept(order())
    outbox.log(KEY, chunk(b"1"))
    first = outbox.next_batch()
    assert not outbox.accept(order())
    outbox.log(KEY, chunk(b"2"))
    assert outbox.next_batch() == []
    acknowledge(outbox, first)
    second = outbox.next_batch()
    assert texts(second) == {KEY: [b"2"]}
    assert not outbox.accept(order())
    outbox.rewind(KEY, 1)
    assert texts(outbox.next_batch()) == {KEY: [b"2"]}


async def test_a_full_batch_is_announced(make: Callable[..., Outbox]) -> None:
    """`wait_until_full` returns once there are as many attempts as a batch takes, and not when that is over."""
    outbox = make()
    waiter = asyncio.create_task(outbox.wait_until_full())
    for number in range(MAX_BATCH_ATTEMPTS):
        await asyncio.sleep(0)
        assert not waiter.done()
        outbox.accept(order(f"run_1/s{number}/1"))
        outbox.log(f"run_1/s{number}/1", chunk(b"1"))
    await asyncio.wait_for(waiter, 30)
    outbox.next_batch()
    again = asyncio.create_task(outbox.wait_until_full())
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()


def test_a_result_over_the_limit_becomes_a_failure(make: Callable[..., Outbox]) -> None:
    """A result that no report can carry fails the attempt with the way out."""
    outbox = make()
    outbox.accept(order())
    outbox.finished(KEY, finished(outcome=b"x" * MAX_EVENT_BYTES))
    assert texts(outbox.next_batch()) == {KEY: [b"finished FAILED result_too_large "]}


async def test_waiting_ends_with_the_first_event(tmp_path: Path) -> None:
    """`wait` sleeps until there is something: an event, a state that is asked for, progress or a start that is due."""
    outbox = Outbox(store=SpillStore(directory=tmp_path))
    outbox.accept(order())
    waiter = asyncio.create_task(outbox.wait())
    await asyncio.sleep(0)
    assert not waiter.done()
    outbox.log(KEY, chunk(b"1"))
    await asyncio.wait_for(waiter, 30)
    acknowledge(outbox, outbox.next_batch())
    outbox.progress(KEY, Progress(at_us=0, done=1))
    acknowledge(outbox, outbox.next_batch())
    outbox.progress(KEY, Progress(at_us=0, done=2))
    assert outbox.next_batch() == []
    await asyncio.wait_for(outbox.wait(), 30)
    second = outbox.next_batch()
    assert texts(second) == {KEY: [b"progress 2"]}
    acknowledge(outbox, second)
    waiter = asyncio.create_task(outbox.wait())
    await asyncio.sleep(0)
    outbox.accept(order("run_2/one/1"))
    outbox.started("run_2/one/1", started())
    await asyncio.wait_for(waiter, 30)
    begun = outbox.next_batch()
    assert texts(begun) == {"run_2/one/1": [b"started 7"]}
    acknowledge(outbox, begun)
    waiter = asyncio.create_task(outbox.wait())
    await asyncio.sleep(0)
    assert not outbox.accept(order("run_2/one/1"))
    await asyncio.wait_for(waiter, 30)
    outbox.close()


def test_a_start_waits_a_moment_for_what_follows(make: Callable[..., Outbox], clock: Clock) -> None:
    """A step that ends at once has its start and its end in one report; a longer one reports its start by itself."""
    outbox = make()
    outbox.accept(order())
    outbox.started(KEY, started())
    assert outbox.next_batch() == []
    outbox.finished(KEY, finished())
    assert texts(outbox.next_batch()) == {KEY: [b"started 7", b"finished SUCCEEDED  "]}
    answer(outbox, 2)
    outbox.accept(order("run_2/one/1"))
    outbox.started("run_2/one/1", started())
    clock.now += 0.01
    assert texts(outbox.next_batch()) == {"run_2/one/1": [b"started 7"]}
