"""Facts and rungs that a host reports are stored with the attempt, in the transaction of their event."""

from __future__ import annotations

from msgspec.structs import replace
from store_histories import T0, Ids, finish, finished, key, logged, opened, queue, reported, start, started

from nomaflow_api.v1.letters import Stopping
from nomaflow_kernel.history.attempt_facts import NO_FACTS, AttemptFacts
from nomaflow_kernel.history.records import AttemptLogRecord, AttemptRecord
from nomaflow_kernel.history.transitions import RecordRung
from nomaflow_kernel.store.sql_store import Store

FIRST = Stopping(rung=1, what="asked", why="canceled by änn", at_us=T0, next_at_us=T0 + 5)
SECOND = Stopping(rung=2, what="exception", why="late \x00", at_us=T0 + 5, after_us=5)
ONE, TWO = AttemptFacts(rungs=(FIRST,)), AttemptFacts(rungs=(FIRST, SECOND))


def rung(run_id: str, facts: AttemptFacts) -> RecordRung:
    """Return the transition of the newest of some rungs."""
    return RecordRung(**key(run_id), rung=facts.rungs[-1], facts=facts)


async def attempt_of(store: Store, run_id: str) -> AttemptRecord:
    """Return the only attempt of a run."""
    (detail,) = await store.run_details([run_id])
    (attempt,) = detail.attempts
    return attempt


async def test_rungs_are_kept_with_their_events(store: Store) -> None:
    """Each in its own batch or all in one, with the start before and the end after them."""
    ids = Ids()
    apart, together = ids.new(), ids.new()
    end = AttemptFacts(
        rungs=(FIRST, SECOND), stopped_at_us=T0 + 6, exit_signal=9, exit_text="killed", warnings=("a", "b"),
        dropped_lines=3, dropped_bytes=2**40, lost_lines=1, complete=False,
    )  # fmt: skip
    story = [
        [queue(apart), start(apart), opened(apart)],
        [started(apart, exclusive=True), rung(apart, ONE)],
        [rung(apart, TWO), reported(apart, 7)],
        [finished(apart, facts=end), finish(apart)],
    ]
    for batch in story:
        await store.apply(batch, at_us=T0)
    same = [replace_run(each, together) for batch in story for each in batch]
    await store.apply(same, at_us=T0)
    for run_id in (apart, together):
        attempt = await attempt_of(store, run_id)
        assert attempt.facts == end
        assert attempt.exclusive
        events = [each for each in (await store.events_after(0, limit=99)).events if each.run_id == run_id]
        rungs = [each for each in events if each.kind == "attempt.stopping"]
        assert [(each.data["rung"], each.data["next_at_us"]) for each in rungs] == [(1, T0 + 5), (2, None)]
        assert [each.kind for each in events][-3:] == ["attempt.stopping", "attempt.finished", "run.finished"]


def replace_run(transition: object, run_id: str) -> object:
    """Return the same transition of another run."""
    if hasattr(transition, "run"):
        return replace(transition, run=replace(transition.run, run_id=run_id))
    if hasattr(transition, "attempt") and isinstance(transition.attempt, AttemptRecord):
        return replace(transition, attempt=replace(transition.attempt, run_id=run_id))
    return replace(transition, run_id=run_id)


async def test_most_attempts_have_no_facts_but_that_all_of_them_is_stored(store: Store) -> None:
    """Before the end none at all."""
    run_id = Ids().new()
    await store.apply([queue(run_id), start(run_id), opened(run_id), started(run_id)], at_us=T0)
    assert (await attempt_of(store, run_id)).facts is NO_FACTS
    await store.apply([finished(run_id, facts=AttemptFacts(complete=True))], at_us=T0)
    assert (await attempt_of(store, run_id)).facts == AttemptFacts(complete=True)


async def test_how_much_of_each_log_is_stored(store: Store) -> None:
    """First and last line, their number and levels, for each try; nothing for a run without a log."""
    run_id = Ids().new()
    await store.apply(
        [
            queue(run_id),
            logged(run_id, 1, 10, levels=0b100),
            logged(run_id, 11, 5, step="report", levels=0b1000),
            logged(run_id, 16, 1, levels=0b1010000),
            logged(run_id, 17, 2, attempt=2, levels=0b1),
        ],
        at_us=T0,
    )
    assert await store.attempt_logs(run_id) == {
        ("purge", 1): AttemptLogRecord(first_seq=1, last_seq=16, lines=11, levels=0b1010100),
        ("purge", 2): AttemptLogRecord(first_seq=17, last_seq=18, lines=2, levels=0b1),
        ("report", 1): AttemptLogRecord(first_seq=11, last_seq=15, lines=5, levels=0b1000),
    }
    assert await store.attempt_logs("run_none") == {}
