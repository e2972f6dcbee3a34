"""Applying transitions: their changes, their limits, and their reports."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from store_histories import (
    T0,
    Ids,
    dispatched,
    finish,
    finished,
    folded,
    logged,
    opened,
    queue,
    reported,
    start,
    started,
)

from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import Ancestor, CancelRequest, RunRequest, RunTrigger, TriggerKind
from nomaflow_kernel.history.states import (
    ATTEMPT_TERMINAL,
    ATTEMPT_TRANSITIONS,
    RUN_TERMINAL,
    RUN_TRANSITIONS,
    AttemptState,
    RunState,
)
from nomaflow_kernel.history.transitions import (
    Notice,
    RequestCancel,
    SetNextFire,
)
from nomaflow_kernel.store.sql_store import Store

ids = Ids()


async def detail(store: Store, run_id: str) -> RunDetail:
    (found,) = await store.run_details([run_id])
    return found


async def test_a_run_from_trigger_to_end_is_kept_whole(store: Store) -> None:
    """Every field of a run, its attempt and its definition comes back as it was given."""
    run_id = ids.new()
    queued = queue(
        run_id,
        request=RunRequest(params={"a": [1, {"b": None}], "ü": "\ud800\x00"}, switches={"purge": False}),
        priority=-3,
        parent_chain=(Ancestor(job_id="root", run_id="run_0"),),
        request_id="r-1",
        request_hash="h",
        slot="nightly//1",
        replay_of="run_1",
    )
    await store.apply([queued, start(run_id), opened(run_id)], at_us=T0)
    result = await store.apply(
        [
            started(run_id),
            logged(run_id, 1, 3),
            reported(run_id, 2),
            finished(
                run_id,
                rows_affected=2**63 - 1,
                extras_json=b'{"x":1}',
                has_result=True,
                peak_rss_bytes=5,
                cpu_seconds=0.25,
            ),
            finish(run_id, rows_affected=-(2**63)),
        ],
        at_us=T0 + 9,
    )
    assert result.lost == frozenset()
    found = await detail(store, run_id)
    assert found.definition == {"id": "nightly"}
    assert found.run == replace(
        queued.run,
        state=RunState.SUCCEEDED,
        started_at_us=T0 + 1,
        finished_at_us=T0 + 9,
        rows_affected=-(2**63),
        log_lines=3,
        log_levels=0b100,
        last_event_seq=result.events[-1].seq,
    )
    (attempt,) = found.attempts
    assert (attempt.state, attempt.report_seq, attempt.worker_pid, attempt.generation) == ("SUCCEEDED", 2, 4242, 3)
    assert (attempt.extras_json, attempt.has_result, attempt.rows_affected) == (b'{"x":1}', True, 2**63 - 1)
    assert (attempt.peak_rss_bytes, attempt.cpu_seconds, attempt.finished_at_us) == (5, 0.25, T0 + 5)


async def test_events_are_numbered_without_gaps_in_the_order_given(store: Store) -> None:
    """Each transition's event has the next number, its kind, state and data, and reads back as it was returned."""
    a, b = ids.new(), ids.new()
    first = await store.apply([queue(a), queue(b), start(a), opened(a)], at_us=T0)
    second = await store.apply([started(a), finished(a, data={"exit_code": 0}), finish(a)], at_us=T0 + 1)
    events = [*first.events, *second.events]
    base = events[0].seq
    assert [e.seq - base for e in events] == list(range(7))
    assert [(e.kind, e.run_id, e.state) for e in events] == [
        ("run.queued", a, "QUEUED"),
        ("run.queued", b, "QUEUED"),
        ("run.started", a, "RUNNING"),
        ("attempt.dispatched", a, "DISPATCHED"),
        ("attempt.started", a, "RUNNING"),
        ("attempt.finished", a, "SUCCEEDED"),
        ("run.finished", a, "SUCCEEDED"),
    ]
    assert events[0].data == {"trigger": "api", "by": "ann"}
    assert events[3].data == {"incarnation": "i1"}
    assert events[4].data == {"worker_pid": 4242, "generation": 3, "child_run_id": ""}
    assert events[5].data == {"rows_affected": None, "error": "", "exit_code": 0}
    assert {e.at_us for e in first.events} == {T0}
    assert list((await store.events_after(base - 1, limit=100)).events) == events


async def test_terminal_runs_never_change(store: Store) -> None:
    """No kind of transition changes a terminal run or the state of its attempt, and each reports that."""
    for state in sorted(RUN_TERMINAL):
        run_id = ids.new()
        if state in RUN_TRANSITIONS[RunState.QUEUED]:
            await store.apply([queue(run_id), finish(run_id, state)], at_us=T0)
        else:
            await store.apply([queue(run_id, state=state, finished_at_us=T0)], at_us=T0)
        before = await detail(store, run_id)
        attacks = [
            start(run_id),
            RequestCancel(run_id=run_id, job_id="nightly", cancel=CancelRequest(at_us=1, by="eve", why="")),
            folded(run_id, 1),
            *(finish(run_id, other, error="late") for other in RunState),
        ]
        for attack in attacks:
            result = await store.apply([attack], at_us=T0 + 100)
            assert (result.lost, list(result.events)) == (frozenset({0}), []), attack
        assert await detail(store, run_id) == before


async def test_terminal_attempts_never_change(store: Store) -> None:
    """A terminal attempt's state never changes; only a late report number and its log are kept."""
    for state in sorted(ATTEMPT_TERMINAL):
        run_id = ids.new()
        await store.apply([queue(run_id), start(run_id), opened(run_id, state)], at_us=T0)
        before = (await detail(store, run_id)).attempts
        attacks = [
            dispatched(run_id),
            started(run_id),
            started(run_id, child_run_id="run_x"),
            opened(run_id),
            *(finished(run_id, other, error="late") for other in AttemptState),
        ]
        for attack in attacks:
            assert (await store.apply([attack], at_us=T0)).lost == {0}, attack
        assert (await detail(store, run_id)).attempts == before
        late = await store.apply([reported(run_id, 9), logged(run_id, 1, 2)], at_us=T0)
        assert late.lost == frozenset()
        after = await detail(store, run_id)
        assert (after.attempts[0].state, after.attempts[0].report_seq, after.run.log_lines) == (state, 9, 2)


@pytest.mark.parametrize("source", sorted(AttemptState))
async def test_an_attempt_ends_only_where_the_table_of_states_says_so(store: Store, source: AttemptState) -> None:
    """Each terminal state is entered from exactly those states that the table allows."""
    for target in sorted(ATTEMPT_TERMINAL):
        run_id = ids.new()
        await store.apply([queue(run_id), start(run_id), opened(run_id, source)], at_us=T0)
        result = await store.apply([finished(run_id, target)], at_us=T0)
        assert (not result.lost) == (target in ATTEMPT_TRANSITIONS[source]), (source, target)


async def test_a_plain_start_needs_a_dispatch_and_a_call_job_does_not(store: Store) -> None:
    """A host's report of a start does not move a PENDING attempt, a call_job's start does."""
    run_id = ids.new()
    await store.apply([queue(run_id), start(run_id), opened(run_id, AttemptState.PENDING)], at_us=T0)
    assert (await store.apply([started(run_id)], at_us=T0)).lost == {0}
    assert not (await store.apply([started(run_id, child_run_id="run_c")], at_us=T0)).lost
    assert (await detail(store, run_id)).attempts[0].child_run_id == "run_c"


async def test_a_lost_change_takes_with_it_what_builds_on_it_and_nothing_else(store: Store) -> None:
    """A late result loses its run's end and next step with it; the log, and the other runs of the batch, are kept."""
    a, b = ids.new(), ids.new()
    await store.apply([queue(a), start(a), opened(a, AttemptState.LOST), queue(b), start(b), opened(b)], at_us=T0)
    result = await store.apply(
        [
            finished(a),
            finished(b),
            logged(a, 1, 1),
            opened(a, step_index=1, step="next"),
            finish(a),
            finish(b),
        ],
        at_us=T0,
    )
    assert result.lost == {0, 3, 4}
    assert [(e.kind, e.run_id) for e in result.events] == [("attempt.finished", b), ("run.finished", b)]
    found = await detail(store, a)
    assert (found.run.state, found.run.log_lines, len(found.attempts)) == ("RUNNING", 1, 1)
    assert (await detail(store, b)).run.state == "SUCCEEDED"
    following = await store.apply([queue(ids.new())], at_us=T0)
    assert following.events[0].seq == result.events[-1].seq + 1


async def test_the_second_of_two_racing_ends_in_one_batch_is_lost(store: Store) -> None:
    """The first of two outcomes for one run in one batch stands and gives the only event."""
    run_id = ids.new()
    await store.apply([queue(run_id), start(run_id)], at_us=T0)
    result = await store.apply([finish(run_id, RunState.CANCELED), finish(run_id, RunState.CANCELED)], at_us=T0)
    assert result.lost == {1}
    assert len(result.events) == 1


async def test_a_request_id_is_one_run_within_and_between_batches(store: Store) -> None:
    """A repeat gets the first run as its answer; a reuse, even by another job, is recognised; their rest is dropped."""
    first, repeat, reuse, later = (ids.new() for _ in range(4))
    one = await store.apply(
        [
            queue(first, request_id="k", request_hash="h1"),
            queue(repeat, request_id="k", request_hash="h1"),
            queue(reuse, request_id="k", request_hash="h2"),
            start(first),
            start(repeat),
            opened(repeat),
            logged(repeat, 1, 1),
            Notice(kind="run.note", run_id=reuse),
        ],
        at_us=T0,
    )
    assert dict(one.duplicates) == {repeat: first, reuse: first}
    assert one.lost == {1, 2, 4, 5, 6, 7}
    assert (await detail(store, first)).definition == {"id": "nightly"}
    two = await store.apply([queue(later, request_id="k", request_hash="h1"), start(later)], at_us=T0)
    assert two.duplicates[later] == first
    known = (await store.runs_of_requests(["k"]))["k"]
    assert (known.run_id, known.request_hash, known.state) == (first, "h1", RunState.RUNNING)
    assert list(two.events) == []
    assert [d.run.run_id for d in await store.run_details([later, repeat, reuse, first])] == [first]
    elsewhere = ids.new()
    other_job = await store.apply([queue(elsewhere, request_id="k", request_hash="h3", job_id="other")], at_us=T0)
    assert other_job.duplicates[elsewhere] == first


async def test_a_slot_fires_once(store: Store) -> None:
    """The same scheduled instant is never two runs, whatever its hash."""
    first, second, third = (ids.new() for _ in range(3))
    result = await store.apply(
        [queue(first, slot="j//1"), queue(second, slot="j//1", request_hash="x"), queue(third)], at_us=T0
    )
    assert dict(result.duplicates) == {second: first}
    assert [e.run_id for e in result.events] == [first, third]


async def test_a_batch_that_is_repeated_changes_nothing(store: Store) -> None:
    """A caller who does not know whether a batch was kept may send it again."""
    run_id = ids.new()
    batch = [queue(run_id, request_id="again"), start(run_id), opened(run_id)]
    await store.apply(batch, at_us=T0)
    before = await detail(store, run_id)
    result = await store.apply(batch, at_us=T0)
    assert (result.lost, list(result.events)) == ({0, 1, 2}, [])
    assert result.duplicates[run_id] == run_id
    assert await detail(store, run_id) == before


async def test_reports_only_rise_and_progress_is_told(store: Store) -> None:
    """Several reports of one attempt in one batch keep the highest number and the last progress."""
    run_id = ids.new()
    await store.apply([queue(run_id), start(run_id), opened(run_id)], at_us=T0)
    result = await store.apply([reported(run_id, 5), reported(run_id, 7, '{"done":1}'), reported(run_id, 6)], at_us=T0)
    assert [(e.kind, e.data) for e in result.events] == [("attempt.progress", {"progress": {"done": 1}})]
    await store.apply([reported(run_id, 3)], at_us=T0)
    (attempt,) = (await detail(store, run_id)).attempts
    assert (attempt.report_seq, attempt.progress_json) == (7, '{"done":1}')
    assert (await store.apply([reported(ids.new(), 1)], at_us=T0)).lost == {0}


async def test_log_lines_are_counted_once(store: Store) -> None:
    """Chunks of one batch add up; a chunk that is there already is lost and not counted."""
    run_id = ids.new()
    await store.apply([queue(run_id), logged(run_id, 1, 2), logged(run_id, 3, 5)], at_us=T0)
    result = await store.apply([logged(run_id, 3, 5), logged(run_id, 8, 1)], at_us=T0)
    assert result.lost == {0}
    assert (await detail(store, run_id)).run.log_lines == 8


async def test_the_first_cancel_request_stays(store: Store) -> None:
    """A second request for a cancel changes nothing and gives no event."""
    run_id = ids.new()
    first = CancelRequest(at_us=T0, by="ann", why="wrong day")
    second = CancelRequest(at_us=T0 + 1, by="bob", why="")
    result = await store.apply(
        [
            queue(run_id),
            RequestCancel(run_id=run_id, job_id="nightly", cancel=first),
            RequestCancel(run_id=run_id, job_id="nightly", cancel=second),
            start(run_id),
        ],
        at_us=T0,
    )
    assert result.lost == {2}
    assert [e.kind for e in result.events] == ["run.queued", "run.cancel_requested", "run.started"]
    assert result.events[1].reason == Reason("canceled_by_user", "wrong day")
    assert (await detail(store, run_id)).run.cancel == first


async def test_any_text_a_program_can_produce_is_kept(store: Store) -> None:
    """NUL, lone surrogates, quotes and a megabyte of error neither fail the batch nor change another column."""
    run_id = ids.new()
    nasty = "a\x00b\ud800'; DROP TABLE runs; --\n\x1b[31m" + "é" * 1_000_000
    reason = Reason("step\x00failed", nasty)
    await store.apply([queue(run_id), start(run_id), opened(run_id), started(run_id)], at_us=T0)
    result = await store.apply(
        [
            reported(run_id, 1, "not json \x00"),
            finished(run_id, AttemptState.FAILED, error=nasty, reason=reason, extras_json=b"\x00\xff"),
            finish(run_id, RunState.FAILED, error=nasty, reason=reason),
        ],
        at_us=T0,
    )
    assert result.lost == frozenset()
    kept = nasty.replace("\x00", "␀").replace("\ud800", "\\ud800")
    found = await detail(store, run_id)
    assert found.run.reason == Reason("step␀failed", kept)
    assert (found.run.error, found.attempts[0].error, found.attempts[0].extras_json) == (kept, kept, b"\x00\xff")
    events = (await store.events_after(result.events[0].seq - 1, limit=10)).events
    assert events[0].data == {"progress": "not json \x00"}
    assert events[1].data["error"] == nasty


async def test_the_step_in_progress_is_named_until_the_end(store: Store) -> None:
    """A run names the step that was opened last, and none when it is terminal."""
    run_id = ids.new()
    await store.apply([queue(run_id), start(run_id), opened(run_id)], at_us=T0)
    assert (await detail(store, run_id)).run.current_step == "purge"
    await store.apply([started(run_id), finished(run_id), opened(run_id, step_index=1, step="report")], at_us=T0)
    assert (await detail(store, run_id)).run.current_step == "report"
    await store.apply([finish(run_id, RunState.CANCELED)], at_us=T0)
    assert (await detail(store, run_id)).run.current_step == ""


async def test_next_fires_and_notices(store: Store) -> None:
    """The last next fire of a batch stands, and none is no row; a notice is an event and nothing else."""
    fires = [SetNextFire(job_id="a", preset="", next_fire_us=n, fingerprint=f"f{n}") for n in (1, 2, 3)]
    notice = Notice(kind="host.attached", host="demo", data={"pid": 7})
    result = await store.apply([*fires, notice], at_us=T0)
    assert (result.lost, [e.kind for e in result.events]) == (frozenset(), ["host.attached"])
    (row,) = await store.schedules()
    assert (row.job_id, row.next_fire_us, row.fingerprint) == ("a", 3, "f3")
    none = [SetNextFire(job_id=job_id, preset="", next_fire_us=None, fingerprint="f4") for job_id in ("a", "b")]
    assert not (await store.apply(none, at_us=T0)).lost
    assert not await store.schedules()
    assert not (await store.apply([fires[0], none[0], fires[1]], at_us=T0)).lost
    assert [row.next_fire_us for row in await store.schedules()] == [2]
    assert list(result.events) == list((await store.events_after(result.events[0].seq - 1, limit=9)).events)


async def test_an_empty_batch_is_nothing(store: Store) -> None:
    """An empty batch has no events and no losses."""
    result = await store.apply([], at_us=T0)
    assert (result.lost, list(result.events), dict(result.duplicates)) == (frozenset(), [], {})


async def test_every_trigger_kind_is_kept(store: Store) -> None:
    """Each kind of trigger reads back as itself."""
    for kind in TriggerKind:
        run_id = ids.new()
        await store.apply([queue(run_id, trigger=RunTrigger(kind=kind, by="x", at_us=1))], at_us=T0)
        assert (await detail(store, run_id)).run.trigger == RunTrigger(kind=kind, by="x", at_us=1)
