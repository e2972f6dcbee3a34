"""Attempts that start, are reported on and end in one batch, which is stored once; and how their results are read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from store_histories import T0, Ids, finish, finished, logged, opened, queue, reported, start, started

from nomaflow_kernel.history.lookups import EndedAttempt, RunDetail
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.store.sql_store import Store

ids = Ids()


@pytest.mark.parametrize("state", [AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.CANCELED])
async def test_a_whole_attempt_in_one_batch(store: Store, state: AttemptState) -> None:
    """A whole attempt has the effect of its single changes, and none if the attempt was given up before."""
    reason = None if state is AttemptState.SUCCEEDED else Reason("step_failed", "no")
    found = []
    for together in (True, False):
        run_id = ids.new()
        changes = [
            queue(run_id), start(run_id), opened(run_id), started(run_id), logged(run_id, 1, 3), reported(run_id, 4),
            finished(run_id, state, reason=reason, error="no", extras_json=b"{}", has_result=True, cpu_seconds=0.5),
            finish(run_id, RunState(state), reason=reason),
        ]  # fmt: skip
        for batch in (changes[:1], changes[1:3], changes[3:]) if together else [[change] for change in changes]:
            result = await store.apply(batch, at_us=T0)
            assert result.lost == frozenset()
        (one,) = await store.run_details([run_id])
        assert one.run.last_event_seq == result.events[-1].seq
        found.append((one.run, [replace(each, run_id="") for each in one.attempts]))
    assert found[0][1] == found[1][1]
    same = {"run_id": "", "last_event_seq": 0}
    assert replace(found[0][0], **same) == replace(found[1][0], **same)
    given_up = ids.new()
    await store.apply([queue(given_up), start(given_up), opened(given_up)], at_us=T0)
    await store.apply([finished(given_up, AttemptState.LOST)], at_us=T0)
    late = await store.apply([started(given_up), reported(given_up, 9), finished(given_up, state)], at_us=T0)
    assert late.lost == frozenset({0, 2})
    (kept,) = await store.run_details([given_up])
    assert kept.attempts[0].state is AttemptState.LOST


async def test_results_are_read_as_far_as_there_is_room(store: Store) -> None:
    """Each run has its own room, the newest results come first, small ones are always read; an unread one is None."""
    sizes = (90_000, 50_000, 3, 0, 60_000, 40_000)
    runs = [ids.new(), ids.new()]
    for run_id in runs:
        await store.apply([queue(run_id), start(run_id)], at_us=T0)
        ended = {"state": AttemptState.SUCCEEDED, "has_result": True}
        tries = [
            opened(run_id, step_index=n // 2, attempt=1 + n % 2, extras_json=b"x" * size, **ended)
            for n, size in enumerate(sizes)
        ]
        await store.apply(tries, at_us=T0)

    def read(found: Sequence[RunDetail]) -> list[list[int | None]]:
        return [[None if a.extras_json is None else len(a.extras_json) for a in run.attempts] for run in found]

    assert read(await store.run_details(runs)) == [[None, None, 3, 0, None, None]] * 2
    newest = await store.run_details(runs, result_bytes=120_000)
    assert read(newest) == [[None, None, 3, 0, 60_000, 40_000]] * 2
    assert read(await store.run_details(runs, result_bytes=1_000_000)) == [list(sizes)] * 2


async def test_a_kernel_that_takes_over_reads_the_results_that_later_steps_and_the_run_s_caller_see(
    store: Store,
) -> None:
    """Others would fill its memory as it starts. Tries that were repeated take no room; the newest result is whole."""
    run_id = ids.new()
    await store.apply([queue(run_id), start(run_id)], at_us=T0)
    steps = ((400_000, 300_000), (1_900_000,), (200_000,), (1_800_000,), (0,))
    tries = [
        opened(run_id, AttemptState.SUCCEEDED, step_index=n, attempt=attempt, extras_json=b"x" * size)
        for n, sizes in enumerate(steps)
        for attempt, size in enumerate(sizes, start=1)
    ]
    await store.apply(tries, at_us=T0)
    (found,) = (run for run in (await store.active_runs()).running if run.run.run_id == run_id)
    assert [None if each.extras_json is None else len(each.extras_json) for each in found.attempts] == [
        None, 300_000, None, 200_000, 1_800_000, 0,
    ]  # fmt: skip


async def test_ended_attempts_are_found_by_their_keys(store: Store) -> None:
    """A late report on one needs a few facts about it: not its result, its run's request nor the whole definition."""
    one, other, gone = (ids.new() for _ in range(3))
    body = '{"id":"nightly","params":{"retry_on_lost":true},"retry_on_lost":%s}'
    await store.apply(
        [
            queue(one, definition=body % "false"),
            queue(other, definition=body % "true", definition_digest="d2", job_id="b", host="two"),
            start(one), start(other), opened(one), opened(other, attempt=2, step_index=1),
            opened(one, step="open", step_index=2),
        ],
        at_us=T0,
    )  # fmt: skip
    late = finished(other, AttemptState.LOST)
    ends = [reported(one, 4), finished(one), replace(late, attempt=2, step_index=1)]
    await store.apply(ends, at_us=T0)
    first = EndedAttempt(job_id="nightly", host="demo", incarnation="i1", state=AttemptState.SUCCEEDED, final_seq=4)
    second = replace(first, job_id="b", host="two", state=AttemptState.LOST, final_seq=0, retry_on_lost=True)
    assert await store.ended_attempts({one, other, gone}) == {f"{one}/purge/1": first, f"{other}/purge/2": second}
