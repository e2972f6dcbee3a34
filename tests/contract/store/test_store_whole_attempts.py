"""Attempts that start, are reported on and end in one batch, which the store changes once."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from store_histories import T0, Ids, finish, finished, logged, opened, queue, reported, start, started

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
