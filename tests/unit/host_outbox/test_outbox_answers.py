"""The outbox's reactions to a kernel's answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from outbox_driver import KEY, Clock, acknowledge, answer, chunk, finished, order, started, texts

from nomaflow_api.v1.letter_words import AckStatus
from nomaflow_api.v1.letters import Finished
from nomaflow_api.v1.sealing import open_event
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.outbox.turns import MAX_BATCH_ATTEMPTS


def test_what_is_not_acknowledged_is_sent_again(make: Callable[..., Outbox]) -> None:
    """A rewind repeats exactly what the kernel has not confirmed."""
    outbox = make()
    outbox.accept(order())
    for body in (b"1", b"2", b"3"):
        outbox.log(KEY, chunk(body))
    assert texts(outbox.next_batch()) == {KEY: [b"1", b"2", b"3"]}
    assert outbox.next_batch() == []
    answer(outbox, 1)
    again = outbox.next_batch()
    assert again[0].first_seq == 2
    outbox.rewind(KEY, 2)
    assert texts(outbox.next_batch()) == {KEY: [b"3"]}
    outbox.rewind_all()
    assert texts(outbox.next_batch()) == {KEY: [b"3"]}


def test_a_gap_sends_from_where_the_kernel_is(make: Callable[..., Outbox]) -> None:
    """Events behind the acknowledged number come again after GAP."""
    outbox = make()
    outbox.accept(order())
    outbox.log(KEY, chunk(b"1"))
    outbox.log(KEY, chunk(b"2"))
    outbox.next_batch()
    answer(outbox, 1, AckStatus.GAP)
    assert texts(outbox.next_batch()) == {KEY: [b"2"]}


def test_an_answer_without_progress_is_not_repeated_in_a_tight_loop(make: Callable[..., Outbox], clock: Clock) -> None:
    """A kernel that acknowledges nothing is asked again after growing pauses."""
    outbox = make()
    outbox.accept(order())
    outbox.log(KEY, chunk(b"1"))
    pauses = []
    assert outbox.next_batch()
    for _ in range(8):
        answer(outbox, 0)
        before = clock.now
        while outbox.next_batch() == []:
            clock.now += 0.01
        pauses.append(clock.now - before)
    assert pauses[0] >= 0.09
    assert pauses[-1] > pauses[0]
    assert max(pauses) < 6
    answer(outbox, 0)
    outbox.log(KEY, chunk(b"2"))
    outbox.rewind(KEY, 1)
    assert texts(outbox.next_batch()) == {KEY: [b"2"]}, "a new session waits for nothing"
    answer(outbox, 1)
    clock.now += 0.2
    assert texts(outbox.next_batch()) == {KEY: [b"2"]}, "and for its first answer without progress no longer than once"


@pytest.mark.parametrize("kind", [AckStatus.FENCED, AckStatus.CONFLICT])
def test_a_fenced_attempt_is_forgotten_and_its_key_remembered(make: Callable[..., Outbox], kind: AckStatus) -> None:
    """A fenced attempt is not reported any more, its later events are dropped, and a repeat starts nothing."""
    outbox = make()
    outbox.accept(order(retry_on_lost=True))
    outbox.log(KEY, chunk(b"1"))
    outbox.next_batch()
    holding = answer(outbox, 0, kind, "not yours")
    assert holding is not None
    assert holding.retry_on_lost
    assert not outbox.inventory()
    assert [each.attempt_key for each in outbox.unfinished()] == [KEY]
    outbox.rewind_all()
    outbox.log(KEY, chunk(b"2"))
    assert outbox.next_batch() == []
    outbox.finished(KEY, finished())
    assert outbox.next_batch() == []
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
    assert answer(outbox, 0, AckStatus.INVALID, "nonsense") is None
    outbox.finished(KEY, finished())
    batch = outbox.next_batch()
    assert batch[0].first_seq == 2
    assert texts(batch) == {KEY: [b"finished SUCCEEDED  "]}


def test_an_invalid_outcome_becomes_a_failure(make: Callable[..., Outbox]) -> None:
    """An attempt whose outcome the kernel cannot take fails instead of hanging for ever."""
    outbox = make()
    outbox.accept(order())
    outbox.finished(KEY, finished())
    outbox.next_batch()
    answer(outbox, 0, AckStatus.INVALID, "nonsense")
    assert texts(outbox.next_batch()) == {KEY: [b"finished FAILED return_invalid "]}
    answer(outbox, 0, AckStatus.INVALID, "nonsense again")
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
    answer(outbox, 1, AckStatus.GAP)
    batch = outbox.next_batch()
    assert (batch[0].first_seq, len(batch[0].events)) == (2, 1)
    end = open_event(batch[0].events[0])
    assert isinstance(end, Finished)
    assert end.lines_lost


def test_a_restored_kernel_is_told_an_outcome_it_had_acknowledged(make: Callable[..., Outbox]) -> None:
    """A restored kernel that sends the attempt again gets the outcome under the number that it expects."""
    outbox = make()
    outbox.accept(order())
    for body in (b"1", b"2", b"3"):
        outbox.log(KEY, chunk(body))
    outbox.finished(KEY, finished())
    acknowledge(outbox, outbox.next_batch())
    assert not outbox.accept(order())
    outbox.next_batch()
    answer(outbox, 1, AckStatus.GAP)
    batch = outbox.next_batch()
    assert (batch[0].first_seq, texts(batch)) == (2, {KEY: [b"finished SUCCEEDED  "]})
    end = open_event(batch[0].events[0])
    assert isinstance(end, Finished)
    assert end.lines_lost, "the lines before it are gone, and its log must not be called complete"
    answer(outbox, 1, AckStatus.GAP)
    assert outbox.next_batch() == [], "told once for each number"
    answer(outbox, 2)
    assert outbox.empty


def test_an_outcome_that_is_no_longer_held_is_told_as_lost(make: Callable[..., Outbox]) -> None:
    """A restored kernel that waits for a large outcome gets a failure that says so, and does not wait for ever."""
    outbox = make()
    outbox.accept(order())
    outbox.finished(KEY, finished(outcome=b"x" * 10_000))
    acknowledge(outbox, outbox.next_batch())
    assert not outbox.accept(order())
    outbox.next_batch()
    answer(outbox, 0, AckStatus.GAP)
    assert texts(outbox.next_batch()) == {KEY: [b"finished FAILED outcome_lost "]}


def test_an_attempt_of_which_only_the_kernel_knows_is_told_as_lost(make: Callable[..., Outbox]) -> None:
    """A restored kernel that has seen it start gets a failure where the host has forgotten its key."""
    outbox = make()
    assert not outbox.accept(order(reported=True))
    outbox.next_batch()
    answer(outbox, 1, AckStatus.GAP)
    batch = outbox.next_batch()
    assert (batch[0].first_seq, texts(batch)) == (2, {KEY: [b"finished FAILED outcome_lost "]})
    answer(outbox, 2)
    assert outbox.empty


def test_a_repeated_dispatch_reports_the_state_again(make: Callable[..., Outbox], clock: Clock) -> None:
    """A repeated key starts nothing and reports its state again: waiting, running, finished or long acknowledged."""
    outbox = make()
    outbox.accept(order())
    assert not outbox.accept(order())
    (told,) = outbox.next_batch()
    assert (told.first_seq, told.events) == (1, ())
    outbox.started(KEY, started())
    clock.now += 1
    acknowledge(outbox, outbox.next_batch())
    assert not outbox.accept(order())
    assert texts(outbox.next_batch()) == {KEY: [b"started 7"]}
    answer(outbox, 1)
    outbox.log(KEY, chunk(b"1"))
    assert not outbox.accept(order())
    (once,) = outbox.next_batch()
    assert once.first_seq == 2, "what waits tells its state"
    answer(outbox, 2)
    outbox.finished(KEY, finished())
    acknowledge(outbox, outbox.next_batch())
    assert not outbox.accept(order())
    batch = outbox.next_batch()
    assert batch[0].first_seq == 3
    assert texts(batch) == {KEY: [b"finished SUCCEEDED  "]}


def test_a_refused_order_may_come_again(make: Callable[..., Outbox]) -> None:
    """The refusal is reported, and once it is acknowledged the same key is taken as new."""
    outbox = make()
    assert outbox.accept(order())
    outbox.refuse(KEY, "full")
    assert outbox.inventory()[0].ended
    (refused,) = outbox.next_batch()
    end = open_event(refused.events[0])
    assert isinstance(end, Finished)
    assert (end.state, end.reason_code, end.not_started) == ("FAILED", "host_refused", True)
    answer(outbox, 1)
    assert outbox.accept(order())


def test_outcomes_that_are_told_again_fill_one_batch_after_the_other(make: Callable[..., Outbox]) -> None:
    """A kernel whose history was restored asks for thousands at once, and takes 1,000 attempts in a report."""
    outbox = make()
    keys = [f"run_1/s{number}/1" for number in range(2 * MAX_BATCH_ATTEMPTS + 1)]
    for again in (False, True):
        for key in keys:
            assert outbox.accept(order(key)) is not again
            outbox.finished(key, finished())
        told: list[int] = []
        while batch := outbox.next_batch():
            told.append(len(batch))
            acknowledge(outbox, batch)
        assert told == [MAX_BATCH_ATTEMPTS, MAX_BATCH_ATTEMPTS, 1]
    assert outbox.empty
    outbox.accept(order(keys[0]))
    outbox.accept(order(keys[1]))
    (alone,) = outbox.next_batch(1)
    outbox.undelivered(alone)
    assert [report.attempt_key for report in outbox.next_batch()] == [keys[1], keys[0]]


def test_an_attempt_that_is_never_answered_waits_five_seconds_at_most(
    make: Callable[..., Outbox], clock: Clock
) -> None:
    """Also after hours of it."""
    outbox = make()
    outbox.accept(order())
    outbox.log(KEY, chunk(b"1"))
    for _ in range(5000):
        assert outbox.unanswered(KEY)
        assert outbox.next_batch() == []
        clock.now += 5
        assert texts(outbox.next_batch()) == {KEY: [b"1"]}
