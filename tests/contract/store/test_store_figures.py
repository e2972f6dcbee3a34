"""Lists with filters, counts and the newest runs of jobs: right on both databases, and from an index."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.util import await_only
from store_histories import T0, Ids, finish, folded, logged, opened, queue, start

from nomaflow_kernel.history.lookups import RunCount, RunFilter, VisibleRuns
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import Fold, RunRequest, RunTrigger, TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.operations import run_lists, tallies
from nomaflow_kernel.store.sql_store import Store

SECOND = 1_000_000


def by(name: str, kind: TriggerKind = TriggerKind.API) -> RunTrigger:
    return RunTrigger(kind=kind, by=name, at_us=T0)


async def pages(store: Store, *, limit: int = 50, **filter: object) -> list[list[str]]:
    """Return the ids of all pages of a list."""
    found, before = [], ""
    while True:
        page = await store.list_runs(RunFilter(**filter), before=before, limit=limit)  # type: ignore[arg-type] # passed on
        found.append([run.run_id for run in page.runs])
        before = page.next_before
        if not before:
            return found


async def listed(store: Store, **filter: object) -> list[str]:
    return [run_id for page in await pages(store, **filter) for run_id in page]


async def test_each_filter_of_a_list_keeps_what_it_names(store: Store) -> None:
    """Trigger, person, reason, time, level, tag, exclusion, prefix, replay, parent and ids; together they narrow."""
    ids = Ids()
    a, b, c, d, e = (ids.new() for _ in range(5))
    await store.apply(
        [
            queue(a, job_id="x", trigger=by("alice"), queued_at_us=T0),
            queue(b, job_id="x", trigger=by("alice (for bob)", TriggerKind.CLI), queued_at_us=T0 + SECOND),
            queue(c, job_id="y", trigger=by("alicent"), queued_at_us=T0 + 2 * SECOND, host="h"),
            queue(d, job_id="y", trigger=by("alice", TriggerKind.REPLAY), replay_of=a, queued_at_us=T0 + 3 * SECOND),
            queue(e, job_id="z", trigger=by("* * * * *", TriggerKind.CRON), queued_at_us=T0 + 4 * SECOND),
            start(a, job_id="x"),
            opened(a, child_run_id=c),
            logged(a, 1, 2, levels=0b1100),
            logged(a, 3, 1, levels=0b10000),
            logged(c, 1, 1, levels=0b100),
            finish(b, RunState.FAILED, reason=Reason("step_failed", "no")),
            finish(e, RunState.FAILED, reason=Reason("timed_out", "late")),
        ],
        at_us=T0,
    )
    (detail,) = await store.run_details([a])
    assert detail.run.log_levels == 0b11100
    assert await listed(store, trigger_kinds=(TriggerKind.CLI, TriggerKind.CRON)) == [e, b]
    assert await listed(store, triggered_by="alice") == [d, b, a]
    assert await listed(store, triggered_by="bob") == [b]
    assert await listed(store, triggered_by="alice (for bob)") == [b]
    for other in ("al%", "ob", "BOB", "(for bob)", "b" * 40):
        assert await listed(store, triggered_by=other) == []
    assert await listed(store, reason_codes=("step_failed", "else")) == [b]
    assert await listed(store, reason_codes=("timed_out",), states=(RunState.FAILED, RunState.MISSED)) == [e]
    assert await listed(store, since_us=T0 + SECOND, until_us=T0 + 4 * SECOND) == [d, c, b]
    assert await listed(store, log_levels=0b10000) == [a]
    assert await listed(store, log_levels=0b101) == [c, a]
    assert await listed(store, job_ids=("x", "z", "absent")) == [e, b, a]
    assert await listed(store, job_ids=("x", "z"), states=(RunState.FAILED,), job_id="x") == [b]
    assert await listed(store, job_ids=()) == []
    assert await listed(store, exclude_job_ids=("x", "z")) == [d, c]
    assert await listed(store, run_id_prefix=b) == [b]
    assert await listed(store, run_id_prefix=a[:10]) == [e, d, c, b, a]
    assert await listed(store, replay_of=a) == [d]
    assert await listed(store, replay_of=b) == []
    assert await listed(store, parent_run_id=a) == [c]
    assert await listed(store, run_ids=(e, a, "run_absent")) == [e, a]
    assert await listed(store, run_ids=(e, a, d), replay_of=a, states=(RunState.QUEUED,)) == [d]
    assert await listed(store, oldest_first=True, job_id="y") == [c, d]
    assert await pages(store, oldest_first=True, limit=2) == [[a, b], [c, d], [e]]
    assert await pages(store, limit=2, run_ids=(a, b, e)) == [[e, b], [a]]


async def test_filters_never_show_what_the_caller_may_not_read(store: Store) -> None:
    """A caller of one job or host gets no other run, by whichever filter."""
    ids = Ids()
    a, b, c = (ids.new() for _ in range(3))
    await store.apply(
        [
            queue(a, job_id="mine", trigger=by("alice")),
            queue(b, job_id="theirs", trigger=by("alice"), host="h", replay_of=a),
            queue(c, job_id="theirs", trigger=by("alice"), host="g"),
            opened(a, child_run_id=b),
        ],
        at_us=T0,
    )
    for visible, seen in (
        (VisibleRuns(job_ids=("mine",)), [a]),
        (VisibleRuns(prefixes=("mi",)), [a]),
        (VisibleRuns(hosts=("h",)), [b]),
        (VisibleRuns(jobs_of_hosts=(("theirs", "g"),)), [c]),
        (VisibleRuns(), []),
    ):
        assert await listed(store, visible=visible, triggered_by="alice") == seen
        assert await listed(store, visible=visible, run_ids=(a, b, c)) == seen
        assert await listed(store, visible=visible, job_ids=("mine", "theirs")) == seen
        assert await listed(store, visible=visible, states=(RunState.QUEUED,)) == seen
        assert await listed(store, visible=visible, replay_of=a) == [each for each in seen if each == b]
        assert await listed(store, visible=visible, parent_run_id=a) == [each for each in seen if each == b]
        assert await listed(store, visible=visible, job_id="theirs") == [each for each in seen if each != a]


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_a_filter_without_an_index_stops_and_says_how_far_it_looked(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, oldest_first: bool
) -> None:
    """Pages are short, and together whole: no run is missed or told twice, wherever a page has stopped."""
    monkeypatch.setattr(run_lists, "_LOOKED_AT", 10)
    monkeypatch.setattr(run_lists, "_LEAST_OF_A_WALK", 3)
    ids = Ids()
    runs = [ids.new() for _ in range(60)]
    await store.apply(
        [
            queue(r, job_id=f"j{i % 3}", trigger=by("rare" if i % 25 == 0 else "often"), queued_at_us=T0)
            for i, r in enumerate(runs)
        ],
        at_us=T0,
    )
    rare = [runs[50], runs[25], runs[0]]
    if oldest_first:
        rare.reverse()
    for more in ({}, {"job_ids": ("j0", "j1", "j2")}, {"states": (RunState.QUEUED,)}):
        found = await pages(store, triggered_by="rare", oldest_first=oldest_first, **more)
        assert [run_id for page in found for run_id in page] == rare, more
        assert len(found) > 3, more
    page = await store.list_runs(RunFilter(triggered_by="nobody", oldest_first=oldest_first), before="", limit=5)
    assert (list(page.runs), page.scanned_to) == ([], runs[10] if oldest_first else runs[49])
    page = await store.list_runs(RunFilter(triggered_by="often", oldest_first=oldest_first), before="", limit=5)
    assert (len(page.runs), page.scanned_to) == (5, "")


async def test_runs_are_counted_by_what_is_asked_for(store: Store) -> None:
    """Runs, the fires that they stand for, and their rows; only of the range, the job and the host."""
    ids = Ids()
    a, b, c, d = (ids.new() for _ in range(4))
    await store.apply(
        [
            queue(a, job_id="x", trigger=by("alice"), queued_at_us=T0),
            queue(b, job_id="x", trigger=by("@daily", TriggerKind.CRON), queued_at_us=T0 + SECOND),
            queue(c, job_id="y", host="h", queued_at_us=T0 + 2 * SECOND),
            queue(
                d,
                job_id="y",
                state=RunState.MISSED,
                fold=Fold(first_us=T0, last_us=T0, count=3),
                queued_at_us=T0 + 3 * SECOND,
                trigger=by("@daily", TriggerKind.CRON),
            ),
            start(a),
            finish(a, rows_affected=7),
            start(b),
            finish(b, rows_affected=5),
        ],
        at_us=T0,
    )

    async def counted(**asked: object) -> set[RunCount]:
        range_us = {"since_us": T0, "until_us": T0 + 10 * SECOND}
        return set(await store.count_runs(**{**range_us, **asked}))  # type: ignore[arg-type] # passed on

    done, waits, missed = RunState.SUCCEEDED, RunState.QUEUED, RunState.MISSED
    assert await counted() == {
        RunCount(state=done, runs=2, fires=2, rows_affected=12),
        RunCount(state=waits, runs=1, fires=1, rows_affected=0),
        RunCount(state=missed, runs=1, fires=3, rows_affected=0),
    }
    assert await counted(by=["trigger_kind"], job_id="x") == {
        RunCount(state=done, runs=1, fires=1, rows_affected=7, trigger_kind="api"),
        RunCount(state=done, runs=1, fires=1, rows_affected=5, trigger_kind="cron"),
    }
    assert await counted(by=["job_id", "host"], host="h") == {
        RunCount(state=waits, runs=1, fires=1, rows_affected=0, job_id="y", host="h")
    }
    assert await counted(since_us=T0 + 1, until_us=T0 + SECOND) == set()
    assert await counted(since_us=T0 + 1, until_us=T0 + SECOND + 1) == {
        RunCount(state=done, runs=1, fires=1, rows_affected=5)
    }


async def test_rows_are_added_up_beyond_64_bits(store: Store) -> None:
    """A callable may report any number of 64 bits, such as a hash; the sum of two has more."""
    half_ms, hour = 1_800_000, 3600 * SECOND
    rows = (2**63 - 1, 2**63 - 2, -(2**63), -1)
    ids = Ids(start_ms=T0 // 1000 + half_ms)
    runs = [ids.new() for _ in rows]
    await store.apply([queue(each, queued_at_us=T0 + half_ms * 1000) for each in runs], at_us=T0)
    for number, (run_id, reported) in enumerate(zip(runs, rows, strict=True), 1):
        await store.apply([start(run_id), finish(run_id, rows_affected=reported)], at_us=T0)
        for by in ([], ["host"]):
            tally = await store.count_runs(since_us=T0, until_us=T0 + hour, by=by)  # type: ignore[arg-type] # a literal
            found = {count.state: count.rows_affected for count in tally}
            assert found[RunState.SUCCEEDED] == sum(rows[:number])


async def test_a_tally_of_hours_is_that_of_now_whatever_has_changed(store: Store) -> None:
    """Counts that are kept follow each change of an old run, a fold, a row of a lost fold, and a removal."""
    hour_ms, end_us = 3_600_000, T0 + 6 * 3600 * SECOND
    ids = [Ids(start_ms=T0 // 1000 + hour * hour_ms) for hour in range(6)]
    runs = [each.new() for each in ids]
    missed, widened = ids[2].new(), folded(runs[0], T0 + SECOND)

    async def counted() -> dict[str, tuple[int, int, int]]:
        tally = await store.count_runs(since_us=T0, until_us=end_us)
        by_host = await store.count_runs(since_us=T0, until_us=end_us, by=["host"])
        told = {each.state.name: (each.runs, each.fires, each.rows_affected) for each in tally}
        assert told == {each.state.name: (each.runs, each.fires, each.rows_affected) for each in by_host}
        return told

    assert await counted() == {}
    queued = [queue(run_id, queued_at_us=T0 + hour * 3600 * SECOND) for hour, run_id in enumerate(runs)]
    await store.apply(queued, at_us=T0)
    assert await counted() == {"QUEUED": (6, 6, 0)}
    await store.apply([start(runs[2])], at_us=T0)
    assert await counted() == {"QUEUED": (5, 5, 0), "RUNNING": (1, 1, 0)}
    await store.apply([finish(runs[2], rows_affected=7)], at_us=T0)
    fold = Fold(first_us=T0, last_us=T0, count=2)
    row = queue(missed, state=RunState.MISSED, fold=fold, queued_at_us=T0 + 2 * 3600 * SECOND, finished_at_us=T0)
    await store.apply([row], at_us=T0)
    assert await counted() == {"QUEUED": (5, 5, 0), "SUCCEEDED": (1, 1, 7), "MISSED": (1, 2, 0)}
    await store.apply([replace(widened, run_id=missed, add_count=3)], at_us=T0)
    assert await counted() == {"QUEUED": (5, 5, 0), "SUCCEEDED": (1, 1, 7), "MISSED": (1, 5, 0)}
    instead = queue(ids[3].new(), state=RunState.SKIPPED, fold=fold, queued_at_us=T0 + 3 * 3600 * SECOND)
    await store.apply([replace(widened, run_id=ids[1].new(), otherwise=instead)], at_us=T0)
    assert (await counted())["SKIPPED"] == (1, 2, 0)
    assert await store.prune(job_id="", keep_runs=None, before_us=end_us, limit=9) == 2
    assert await counted() == {"QUEUED": (5, 5, 0), "SKIPPED": (1, 2, 0)}


async def test_a_tally_is_that_of_one_moment(store: Store) -> None:
    """Counts of a later commit, which another reader has kept meanwhile, are none of an older snapshot."""
    hour, end_us = 3600 * SECOND, T0 + 6 * 3600 * SECOND
    runs = [Ids(start_ms=(T0 + number * hour) // 1000).new() for number in (2, 4)]
    await store.apply([queue(each, queued_at_us=T0 + n * hour) for n, each in zip((2, 4), runs, strict=True)], at_us=T0)
    counts, loop = store._counts, asyncio.get_running_loop()
    begun, changed = asyncio.Event(), asyncio.Event()

    def read(connection: Connection) -> list[RunCount]:
        connection.exec_driver_sql("SELECT epoch FROM kernel").one()
        loop.call_soon_threadsafe(begun.set)
        if connection.dialect.name == "postgresql":
            await_only(changed.wait())
        else:
            asyncio.run_coroutine_threadsafe(changed.wait(), loop).result(60)
        return counts.count(connection, since_us=T0, until_us=end_us)

    reading = asyncio.ensure_future(store._read(read))
    await begun.wait()
    await store.apply([start(each) for each in runs], at_us=T0)
    await store.count_runs(since_us=T0, until_us=T0 + 3 * hour)
    changed.set()
    assert {each.state: each.runs for each in await reading} == {RunState.QUEUED: 2}
    assert {each.state: each.runs for each in await store.count_runs(since_us=T0, until_us=end_us)} == {
        RunState.RUNNING: 2
    }


async def test_the_newest_runs_of_many_jobs_come_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest first, at most so many of each; those of a preset among a bounded number."""
    ids = Ids()
    runs = [ids.new() for _ in range(12)]
    await store.apply(
        [
            queue(
                r,
                job_id="a" if i % 2 else "b",
                request=RunRequest(preset="eu") if i % 3 == 0 else RunRequest(params={"preset": "eu"}),
                queued_at_us=T0 + i,
            )
            for i, r in enumerate(runs)
        ],
        at_us=T0,
    )
    await store.apply([start(runs[11], job_id="a"), finish(runs[11], job_id="a", rows_affected=4)], at_us=T0)

    async def recent(*job_ids: str, last: int = 2, preset: str = "") -> dict[str, list[int]]:
        found = await store.recent_runs(job_ids, last=last, preset=preset)
        return {job_id: [runs.index(run.run_id) for run in of_job] for job_id, of_job in found.items()}

    assert await recent("a", "b", "none' OR '1'='1") == {"a": [11, 9], "b": [10, 8]}
    assert await recent("b", last=100) == {"b": [10, 8, 6, 4, 2, 0]}
    assert await recent("a", "b", preset="eu") == {"a": [9, 3], "b": [6, 0]}
    monkeypatch.setattr(tallies, "_LOOKED_AT", 2)
    assert await recent("a", "b", preset="eu", last=1) == {"a": [9], "b": []} or await recent("a", preset="eu") == {
        "a": [9]
    }
    assert await recent() == {}
    newest = (await store.recent_runs(["a"], last=1))["a"][0]
    assert (newest.state, newest.started_at_us, newest.finished_at_us) == (RunState.SUCCEEDED, T0 + 1, T0 + 9)
    assert (newest.queued_at_us, newest.rows_affected) == (T0 + 11, 4)


async def test_of_a_large_request_lists_read_the_preset_and_the_level(store: Store) -> None:
    """Runs may be many, and each request of 4 MiB takes up to 90 MiB in memory. A short one is read whole."""
    ids = Ids()
    values = {"params": {"preset": "other", "text": "x" * 5_000}, "op_kwargs": {"one": {"log_level": "INFO"}}}
    requests = [
        RunRequest(preset="eu", log_level="DEBUG", **values),
        RunRequest(preset='"東\\\udcff' * 30, **values),
        RunRequest(log_level="DEBUG", **values),
        RunRequest(**values),
        RunRequest(preset="eu", params={"n": 1}),
    ]
    runs = [ids.new() for _ in requests]
    queued = [queue(r, job_id=r, request=request) for r, request in zip(runs, requests, strict=True)]
    await store.apply(queued, at_us=T0)
    shown = [replace(request, params={}, op_kwargs={}) for request in requests[:4]] + requests[4:]
    page = await store.list_runs(RunFilter(), before="", limit=9)
    assert [run.request for run in page.runs] == shown[::-1]
    named = await store.list_runs(RunFilter(run_ids=tuple(runs)), before="", limit=9)
    seen = await store.list_runs(RunFilter(job_ids=tuple(runs)), before="", limit=9)
    assert list(named.runs) == list(seen.runs) == list(page.runs)
    last = await store.last_runs(runs)
    assert [last[run_id].request for run_id in runs] == shown
    recent = await store.recent_runs(runs, last=1, preset="eu")
    assert [job_id for job_id, found in recent.items() if found] == [runs[4], runs[0]]
