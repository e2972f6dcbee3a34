"""Rows that stand for many fires: they widen, and are created again if they are gone."""

from __future__ import annotations

from store_histories import T0, Ids, folded, queue

from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import Fold
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.sql_store import Store

ids = Ids()


async def detail(store: Store, run_id: str) -> RunDetail:
    (found,) = await store.run_details([run_id])
    return found


async def test_skipped_fires_fold_and_waiting_runs_say_why(store: Store) -> None:
    """A SKIPPED row is terminal from birth and widens; a waiting run's reason is cleared when it starts."""
    skipped, waiting = ids.new(), ids.new()
    why = Reason("overlap", "another run is active")
    born = queue(skipped, state=RunState.SKIPPED, reason=why, fold=Fold(first_us=1, last_us=1, count=1))
    result = await store.apply([born, queue(waiting), folded(skipped, 5, count=2)], at_us=T0)
    assert (result.events[0].kind, result.events[0].reason) == ("run.finished", why)
    expected = {"rows_affected": None, "error": "", "trigger": "api", "by": "ann", "host": "demo", "attempts": 0}
    assert result.events[0].data.items() >= expected.items()
    assert (await detail(store, skipped)).run.fold == Fold(first_us=1, last_us=5, count=3)


async def test_a_fire_that_is_recorded_late_moves_nothing_back(store: Store) -> None:
    """The row of fires that did not run ends with the newest of them, in whatever order they were recorded."""
    skipped = ids.new()
    why = Reason("overlap", "another run is active")
    fold = Fold(first_us=1, last_us=9, count=1)
    await store.apply([queue(skipped, state=RunState.SKIPPED, reason=why, fold=fold, finished_at_us=9)], at_us=T0)
    await store.apply([folded(skipped, 4)], at_us=T0)
    run = (await detail(store, skipped)).run
    assert run.fold == Fold(first_us=1, last_us=9, count=2)
    assert run.finished_at_us == 9


async def test_fires_whose_row_was_pruned_have_a_new_one(store: Store) -> None:
    """Fires of one batch share a new row, with one event; later fires fold into it, and nothing counts as lost."""
    gone = ids.new()
    first, second = folded(gone, 5), folded(gone, 7, count=2)
    run_id = first.otherwise.run.run_id
    result = await store.apply([first, second, queue(ids.new())], at_us=T0)
    assert (result.lost, result.unfolded) == (frozenset(), {gone: run_id})
    assert [(event.kind, event.run_id == run_id) for event in result.events] == [
        ("run.finished", True),
        ("run.queued", False),
    ]
    kept = await detail(store, run_id)
    assert (kept.run.fold, kept.run.last_event_seq) == (Fold(first_us=5, last_us=7, count=3), result.events[0].seq)
    assert kept.definition == {"id": "nightly"}
    result = await store.apply([folded(run_id, 8)], at_us=T0)
    assert (await detail(store, run_id)).run.fold == Fold(first_us=5, last_us=8, count=4)
    assert not result.unfolded
