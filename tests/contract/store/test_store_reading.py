"""Reading: lists, events, logs, and what an engine is rebuilt from."""

from __future__ import annotations

import tracemalloc
from typing import Any

from msgspec.structs import replace
from store_histories import T0, Ids, finish, finished, logged, opened, queue, start, started
from store_places import SqlitePlace

from nomaflow_kernel.engine.run_plan import lane_of, plan_run
from nomaflow_kernel.history.lookups import EventFilter, LogFilter, RunFilter, VisibleRuns
from nomaflow_kernel.history.records import LARGE_REQUEST, LogHead, RunRequest, RunTrigger, TriggerKind
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.history.transitions import Notice
from nomaflow_kernel.store.sql_store import Store, open_store
from nomaflow_project.jobs.definitions import JobDefinition, PresetDefinition, StepDefinition


async def listed(store: Store, *, before: str = "", limit: int = 50, **filter: object) -> list[str]:
    page = await store.list_runs(RunFilter(**filter), before=before, limit=limit)  # type: ignore[arg-type] # passed on
    return [run.run_id for run in page.runs]


async def test_runs_are_listed_newest_first_in_pages(store: Store) -> None:
    """Pages join without gap or repeat, the last one says so, and filters combine."""
    ids = Ids()
    runs = [ids.new() for _ in range(7)]
    jobs = {r: "odd" if i % 2 else "even" for i, r in enumerate(runs)}
    await store.apply(
        [queue(r, job_id=jobs[r], host="a" if i < 4 else "b", queued_at_us=T0 + i) for i, r in enumerate(runs)],
        at_us=T0,
    )
    await store.apply(
        [
            finish(runs[0], RunState.FAILED),
            start(runs[1]),
            finish(runs[1]),
            finish(runs[2], RunState.CANCELED),
            start(runs[3]),
        ],
        at_us=T0,
    )
    newest_first = runs[::-1]
    page = await store.list_runs(RunFilter(), before="", limit=3)
    assert ([r.run_id for r in page.runs], page.next_before) == (newest_first[:3], newest_first[2])
    page = await store.list_runs(RunFilter(), before=page.next_before, limit=3)
    assert ([r.run_id for r in page.runs], page.next_before) == (newest_first[3:6], newest_first[5])
    page = await store.list_runs(RunFilter(), before=page.next_before, limit=3)
    assert ([r.run_id for r in page.runs], page.next_before) == (newest_first[6:], "")
    assert await listed(store, job_id="odd") == [runs[5], runs[3], runs[1]]
    assert await listed(store, host="a") == runs[3::-1]
    assert await listed(store, states=(RunState.FAILED, RunState.CANCELED, RunState.FAILED)) == [runs[2], runs[0]]
    assert await listed(store, states=(RunState.QUEUED,), limit=2) == [runs[6], runs[5]]
    assert await listed(store, states=(RunState.QUEUED, RunState.RUNNING), host="a", job_id="odd") == [runs[3]]
    assert await listed(store, since_us=T0 + 5) == [runs[6], runs[5]]
    assert await listed(store, job_id="even' OR '1'='1") == []
    assert await listed(store, before=runs[0]) == []


async def test_a_list_holds_what_its_caller_may_read(store: Store) -> None:
    """Pages of one caller's runs join without gap or repeat; other filters narrow them, and never widen them."""
    ids = Ids()
    runs = [ids.new() for _ in range(12)]
    jobs = ("a.one", "a.two", "b", "A.one", "a_x", "c")
    await store.apply(
        [queue(r, job_id=jobs[i % 6], host="h" if i % 6 == 5 else "g", queued_at_us=T0) for i, r in enumerate(runs)],
        at_us=T0,
    )
    await store.apply([finish(runs[0], RunState.FAILED), finish(runs[2]), start(runs[6])], at_us=T0)

    async def seen(visible: VisibleRuns, **filter: object) -> list[int]:
        return [runs.index(each) for each in await listed(store, visible=visible, **filter)]

    assert await seen(VisibleRuns()) == []
    assert await seen(VisibleRuns(job_ids=("b",))) == [8, 2]
    assert await seen(VisibleRuns(prefixes=("a.",))) == [7, 6, 1, 0]
    assert await seen(VisibleRuns(prefixes=("a",))) == [10, 7, 6, 4, 1, 0]
    assert await seen(VisibleRuns(hosts=("h",))) == [11, 5]
    both = VisibleRuns(job_ids=("a.one", "c", "absent"), prefixes=("a.o",), hosts=("h",))
    assert await seen(both) == [11, 6, 5, 0]
    assert await seen(both, job_id="a.one") == [6, 0]
    assert await seen(both, job_id="b") == []
    assert await seen(both, host="h") == [11, 5]
    assert await seen(both, host="g") == [6, 0]
    assert await seen(both, states=(RunState.FAILED, RunState.RUNNING)) == [6, 0]
    assert await seen(both, states=(RunState.SUCCEEDED,)) == []
    pairs = VisibleRuns(jobs_of_hosts=(("a.one", "g"), ("c", "g"), ("b", "h")))
    assert await seen(pairs) == [6, 0]
    assert await seen(pairs, job_id="c") == []
    assert await seen(pairs, host="h") == []
    assert await seen(replace(pairs, hosts=("h",)), states=(RunState.RUNNING, RunState.QUEUED)) == [11, 6, 5]
    pages, before = [], ""
    while True:
        page = await store.list_runs(RunFilter(visible=both), before=before, limit=2)
        pages.append([runs.index(run.run_id) for run in page.runs])
        before = page.next_before
        if not before:
            break
    assert pages == [[11, 6], [5, 0]]
    many = VisibleRuns(job_ids=(*tuple(f"job{i}" for i in range(700)), "b"))
    assert await seen(many) == [8, 2]
    assert await seen(VisibleRuns(job_ids=("b' OR '1'='1",), prefixes=("%", "_"), hosts=("' OR 1=1 --",))) == []


async def test_the_facts_that_decide_on_access_are_read_without_the_run(store: Store) -> None:
    """Job, host and author of the runs that exist; a schedule and a calling run are nobody's."""
    ids = Ids()
    one, two, three = (ids.new() for _ in range(3))
    by = RunTrigger(kind=TriggerKind.API, by="alice (for bob)", at_us=T0)
    cron = RunTrigger(kind=TriggerKind.CRON, by="0 3 * * *", at_us=T0)
    await store.apply([queue(one, job_id="a", host="h", trigger=by), queue(two, trigger=cron, slot="s")], at_us=T0)
    found = {each.run_id: each for each in await store.run_subjects([two, three, one])}
    assert found.keys() == {one, two}
    assert (found[one].job_id, found[one].host, found[one].author) == ("a", "h", "alice")
    assert found[two].author == ""
    assert await store.run_subjects([]) == []


async def test_the_run_of_a_request_or_a_slot_is_found_by_an_index(sqlite_place: SqlitePlace) -> None:
    """SQLite takes a partial index only for its condition to the letter: the statement scans nothing."""
    store = open_store(sqlite_place.url)
    await store.open()
    duplicate = (
        "SELECT run_id FROM runs WHERE run_id = 'a' OR request_id = 'c' AND runs.request_id <> ''"
        " OR slot = 'd' AND runs.slot <> ''"
    )
    plan = " ".join(str(row[3]) for row in await sqlite_place.sql("EXPLAIN QUERY PLAN " + duplicate))
    await store.close()
    assert "runs_by_request" in plan, plan
    assert "runs_by_slot" in plan, plan
    assert "SCAN" not in plan, plan


async def test_active_runs_are_whole_when_running_and_slim_when_queued(store: Store) -> None:
    """An engine gets each run that is not terminal, in the order queued, with attempts by step and number."""
    ids = Ids()
    done, running, one, two = (ids.new() for _ in range(4))
    await store.apply(
        [
            queue(done),
            start(done),
            finish(done),
            queue(running),
            start(running),
            opened(running, AttemptState.FAILED, attempt=1),
            opened(running, attempt=2),
            opened(running, AttemptState.PENDING, attempt=1, step_index=1, step="next"),
            queue(one, priority=3),
            queue(two, request=RunRequest(allow_overlap=True)),
        ],
        at_us=T0,
    )
    active = await store.active_runs()
    assert [d.run.run_id for d in active.running] == [running]
    assert [(a.step_index, a.attempt) for a in active.running[0].attempts] == [(0, 1), (0, 2), (1, 1)]
    assert active.running[0].definition == {"id": "nightly"}
    assert [(q.run_id, q.priority, q.job_host, q.allow_overlap) for q in active.queued] == [
        (one, 3, "demo", False),
        (two, 0, "demo", True),
    ]


async def test_a_queued_run_waits_for_its_host_unless_it_begins_with_a_call_job(store: Store) -> None:
    """Or runs no step. Preset, request and reused outputs say which step is the first, as its plan says later."""
    code, call = StepDefinition(name="code", callable="m:f"), StepDefinition(name="call", type="call_job")
    called_first = JobDefinition(
        id="a", steps=(call, code), presets=(PresetDefinition(name="p", steps={"call": False}),)
    )
    plain = JobDefinition(id="b", steps=(code,), queue_timeout_seconds=5)
    unlimited = JobDefinition(id="c", steps=(code,))
    ids, lanes = Ids(), {}
    for definition, request, lane in (
        (called_first, RunRequest(), "*"),
        (called_first, RunRequest(preset="p"), "demo"),
        (called_first, RunRequest(preset="p", params={"text": "x" * LARGE_REQUEST}), "demo"),
        (called_first, RunRequest(preset="p", switches={"call": True}), "*"),
        (called_first, RunRequest(switches={"call": False, "code": False}), "*"),
        (called_first, RunRequest(reuse={"call": {"no_output": True}}), "demo"),
        (plain, RunRequest(), "demo"),
        (unlimited, RunRequest(params={"n": 1}), "demo"),
        (unlimited, RunRequest(switches={"code": False}), "*"),
        (unlimited, RunRequest(reuse={"code": {"no_output": True}}), "*"),
    ):
        lanes[run_id := ids.new()] = lane
        queued = queue(
            run_id, definition=definition.canonical_json, definition_digest=definition.digest, request=request
        )
        await store.apply([queued], at_us=T0)
        assert lane == lane_of(plan_run(definition, request).first, "demo")
    assert {each.run_id: each.host for each in (await store.active_runs()).queued} == lanes


async def test_large_requests_of_queued_runs_are_read_one_at_a_time(store: Store) -> None:
    """Else a kernel could not start with a long queue: a request may have 4 MiB, and 10,000 runs of a user may wait."""
    ids = Ids()
    request = RunRequest(params={"text": "x" * 1_000_000})
    await store.apply([queue(ids.new(), request=request) for _ in range(30)], at_us=T0)
    tracemalloc.start()
    try:
        found = (await store.active_runs()).queued
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [each.large for each in found] == [True] * 30
    assert peak < 10_000_000


async def test_a_queued_run_names_its_definition_if_it_is_run_as_that_says(store: Store) -> None:
    """The needs of its first step are then known without reading it; a request that changes something hides them."""
    ids = Ids()
    plain, twice, changed = (ids.new() for _ in range(3))
    await store.apply(
        [
            queue(plain),
            queue(twice, request=RunRequest(allow_overlap=True, traceparent="00-1-2-01")),
            queue(changed, request=RunRequest(switches={"one": False})),
        ],
        at_us=T0,
    )
    digests = [(each.run_id, bool(each.definition_digest)) for each in (await store.active_runs()).queued]
    assert digests == [(plain, True), (twice, True), (changed, False)]


async def test_events_can_be_kept_to_a_run_or_to_kinds(store: Store) -> None:
    """A kind matches itself and longer kinds after a dot, but no longer word; wildcards are plain letters."""
    ids = Ids()
    a, b = ids.new(), ids.new()
    await store.apply(
        [queue(a), queue(b), start(a), opened(a), Notice(kind="runner.odd"), Notice(kind="run")],
        at_us=T0,
    )

    async def kinds(**filter: object) -> list[str]:
        return [e.kind for e in (await store.events_after(0, limit=50, filter=EventFilter(**filter))).events]  # type: ignore[arg-type] # passed on

    assert await kinds(run_id=a) == ["run.queued", "run.started", "attempt.dispatched"]
    assert await kinds(kinds=("run",)) == ["run.queued", "run.queued", "run.started", "run"]
    assert await kinds(kinds=("run.started", "attempt")) == ["run.started", "attempt.dispatched"]
    assert await kinds(kinds=("%", "r_n")) == []
    assert [e.seq for e in (await store.events_after(2, limit=2)).events] == [3, 4]


async def test_a_log_is_read_from_any_line(store: Store) -> None:
    """The chunk that holds the next line comes first, then all after it; steps and levels leave chunks out."""
    run_id = Ids().new()
    await store.apply(
        [
            queue(run_id),
            logged(run_id, 1, 10),
            logged(run_id, 11, 5, step="report", levels=0b10000),
            logged(run_id, 16, 1, levels=0b1000000, body=b"\x00\xff"),
        ],
        at_us=T0,
    )

    async def firsts(after_seq: int, limit: int = 10, **filter: Any) -> tuple[list[int], bool]:
        page = await store.log_page(run_id, LogFilter(after_seq=after_seq, **filter), limit=limit)
        return [c.first_seq for c in page.chunks], page.more

    assert await firsts(0) == ([1, 11, 16], False)
    assert await firsts(9) == ([1, 11, 16], False)
    assert await firsts(10) == ([11, 16], False)
    assert await firsts(14, limit=1) == ([11], True)
    assert await firsts(15) == ([16], False)
    assert await firsts(16) == ([], False)
    assert await firsts(0, step="report") == ([11], False)
    assert await firsts(0, attempt=2) == ([], False)
    assert await firsts(0, levels=0b1111000) == ([11, 16], False)
    assert await firsts(0, levels=0b1000000) == ([16], False)
    assert await firsts(0, before_seq=11) == ([1], False)
    assert await firsts(0, before_seq=12) == ([1, 11], False)
    assert await firsts(12, before_seq=15) == ([11], False)
    page = await store.log_page(run_id, LogFilter(after_seq=15), limit=1)
    assert (page.chunks[0].body, page.chunks[0].levels, page.chunks[0].codec) == (b"\x00\xff", 64, 1)
    assert await store.log_page("run_none", LogFilter(), limit=1) == type(page)(chunks=[], more=False)


async def test_a_log_is_read_backwards_from_any_line(store: Store) -> None:
    """The chunk that holds the line before comes first; filters leave chunks out as they do forwards."""
    run_id = Ids().new()
    chunks = [
        logged(run_id, first, 5, step="a" if first % 2 else "b", attempt=1 + first % 3) for first in (1, 6, 11, 16)
    ]
    await store.apply([queue(run_id), *chunks], at_us=T0)

    async def firsts(limit: int = 10, **filter: Any) -> tuple[list[int], bool]:
        page = await store.log_page(run_id, LogFilter(**filter), limit=limit, newest_first=True)
        return [c.first_seq for c in page.chunks], page.more

    assert await firsts() == ([16, 11, 6, 1], False)
    assert await firsts(2) == ([16, 11], True)
    assert await firsts(before_seq=16) == ([11, 6, 1], False)
    assert await firsts(before_seq=17, after_seq=5) == ([16, 11, 6], False)
    assert await firsts(step="b") == ([16, 6], False)
    assert await firsts(attempt=3) == ([11], False)


async def test_the_heads_of_a_log_tell_what_its_chunks_hold(store: Store) -> None:
    """A head is its chunk without the body, whose size it knows; the same filters apply."""
    run_id = Ids().new()
    bodies = [b"\x00" * 100_000, b"x"]
    await store.apply(
        [
            queue(run_id),
            *(logged(run_id, 1 + n * 7, 7, body=body, levels=1 << n, attempt=n + 1) for n, body in enumerate(bodies)),
        ],
        at_us=T0,
    )
    heads = (await store.log_heads(run_id, LogFilter(), limit=9)).chunks
    pages = (await store.log_page(run_id, LogFilter(), limit=9)).chunks
    assert [head.size_bytes for head in heads] == [100_000, 1]
    names = [name for name in LogHead.__struct_fields__ if name != "size_bytes"]
    assert [[getattr(head, n) for n in names] for head in heads] == [
        [getattr(page, n) for n in names] for page in pages
    ]
    found = await store.log_heads(run_id, LogFilter(levels=2), limit=9)
    assert ([head.first_seq for head in found.chunks], found.more) == ([8], False)
    assert (await store.log_heads(run_id, LogFilter(), limit=1)).more


async def test_the_newest_run_of_each_job(store: Store) -> None:
    """Jobs without a run are left out, also among more jobs than one statement takes."""
    ids = Ids()
    runs = [ids.new() for _ in range(4)]
    await store.apply([queue(r, job_id=f"j{i % 2}") for i, r in enumerate(runs)], at_us=T0)
    found = await store.last_runs([f"j{i}" for i in range(700)])
    assert {job: run.run_id for job, run in found.items()} == {"j0": runs[2], "j1": runs[3]}
    assert await store.last_runs([]) == {}
    states = await store.last_states([f"j{i}" for i in range(700)])
    assert states == {job: (run.state, run.host) for job, run in found.items()}
    assert await store.last_states([]) == {}


async def test_details_come_in_the_order_asked_for(store: Store) -> None:
    """Unknown ids are left out; more ids than one statement takes are no trouble."""
    ids = Ids()
    runs = [ids.new() for _ in range(600)]
    await store.apply([queue(r) for r in runs], at_us=T0)
    await store.apply([t for r in runs for t in (start(r), opened(r))], at_us=T0)
    await store.apply([t for r in runs for t in (started(r), finished(r), finish(r))], at_us=T0)
    asked = [*reversed(runs), "run_unknown"]
    found = await store.run_details(asked)
    assert [d.run.run_id for d in found] == asked[:-1]
    assert all(len(d.attempts) == 1 for d in found)


async def test_requests_slots_and_job_ids_are_found(store: Store) -> None:
    """The run of a request by its id; which of many slots have a run; every job with a run, once."""
    ids = Ids()
    keyed, slotted, plain = (ids.new() for _ in range(3))
    await store.apply(
        [
            queue(keyed, job_id="b", request_id="k", request_hash="h"),
            queue(slotted, job_id="a", slot="a//2026-01-01T00:00:00Z"),
            queue(plain, job_id="b"),
        ],
        at_us=T0,
    )
    found = await store.runs_of_requests(["k", "", *(f"k{number}" for number in range(1_200))])
    assert list(found) == ["k"]
    of_k = found["k"]
    assert (of_k.run_id, of_k.request_hash, of_k.state) == (keyed, "h", RunState.QUEUED)
    assert await store.runs_of_requests([]) == {}
    others = [f"a//{number}" for number in range(1_200)]
    assert await store.slots_taken([*others, "a//2026-01-01T00:00:00Z", ""]) == {"a//2026-01-01T00:00:00Z"}
    assert await store.job_ids() == ["a", "b"]
