"""Stored events, newest first: filters, pages, and pauses that tell of themselves."""

from __future__ import annotations

import pytest
from store_histories import T0, Ids, finish, queue, start

from nomaflow_api.bounds import PAGE_BYTES
from nomaflow_kernel.history.lookups import EventFilter, EventPage
from nomaflow_kernel.history.records import CancelRequest, PauseRecord, RunTrigger, TriggerKind
from nomaflow_kernel.history.transitions import ClearPause, Notice, RequestCancel, SetPause
from nomaflow_kernel.store.operations import events
from nomaflow_kernel.store.sql_store import Store


def pause(scope: str, name: str, by: str = "ann") -> SetPause:
    record = PauseRecord(scope=scope, name=name, by=by, why="vendor", since_us=T0, until_us=T0 + 5)
    return SetPause(pause=record)


async def seqs(store: Store, *, limit: int = 50, **filter: object) -> list[int]:
    """Return the numbers of all pages of a list."""
    found, before = [], 0
    while True:
        page = await store.events_before(before, filter=EventFilter(**filter), limit=limit)  # type: ignore[arg-type] # passed on
        found += [event.seq for event in page.events]
        before = page.next_seq
        if not before:
            return found


async def test_a_pause_and_its_end_are_events_of_their_own_commit(store: Store) -> None:
    """The events say who paused what, and why; an end that ends nothing is no event, and one by time has no author."""
    result = await store.apply([pause("job", "nightly"), pause("host", "demo"), pause("all", "")], at_us=T0)
    assert [(e.kind, e.job_id, e.host, e.by) for e in result.events] == [
        ("pause.set", "nightly", "", "ann"),
        ("pause.set", "", "demo", "ann"),
        ("pause.set", "", "", "ann"),
    ]
    assert result.events[0].data == {"scope": "job", "why": "vendor", "until_us": T0 + 5}
    result = await store.apply(
        [
            ClearPause(scope="job", name="nightly", by="bob"),
            ClearPause(scope="job", name="other", by="bob"),
            ClearPause(scope="host", name="demo"),
        ],
        at_us=T0,
    )
    told = [(e.seq, e.kind, e.job_id, e.host, e.by, e.data) for e in result.events]
    assert told == [
        (4, "pause.cleared", "nightly", "", "bob", {"scope": "job"}),
        (5, "pause.cleared", "", "demo", "", {"scope": "host"}),
    ]
    assert list((await store.events_after(0, limit=9)).events) == [
        *(await store.events_after(0, limit=3)).events,
        *result.events,
    ]
    assert [each.scope for each in await store.pauses()] == ["all"]


async def test_events_are_listed_newest_first_by_each_filter(store: Store) -> None:
    """Kinds, run, job, host, person, acts and times; together they narrow."""
    ids = Ids()
    a, b, c = (ids.new() for _ in range(3))
    people = [
        RunTrigger(kind=TriggerKind.CLI, by="ann (for bob)", at_us=T0),
        RunTrigger(kind=TriggerKind.CRON, by="@daily", at_us=T0),
        RunTrigger(kind=TriggerKind.CALL_JOB, by="x/step", at_us=T0),
    ]
    queued = [queue(r, job_id="j", trigger=by) for r, by in zip((a, b, c), people, strict=True)]
    await store.apply(queued, at_us=T0)  # 1, 2, 3
    cancel = CancelRequest(at_us=T0, by="annabel", why="")
    await store.apply(
        [start(a, job_id="j"), RequestCancel(run_id=b, job_id="j", cancel=cancel)], at_us=T0 + 120_000_000
    )
    await store.apply([pause("job", "j", by="ann"), finish(a, job_id="j")], at_us=T0 + 240_000_000)  # 6, 7
    notices = [Notice(kind="host.attached", host="h"), Notice(kind="runner.x", host="g")]
    await store.apply(notices, at_us=T0 + 360_000_000)  # 8, 9
    assert await seqs(store) == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert await seqs(store, limit=2) == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert await seqs(store, kinds=("run",)) == [7, 5, 4, 3, 2, 1]
    assert await seqs(store, kinds=("pause.set", "host")) == [8, 6]
    assert await seqs(store, run_id=a) == [7, 4, 1]
    assert await seqs(store, job_id="j", kinds=("pause",)) == [6]
    assert await seqs(store, host="h") == [8]
    assert await seqs(store, acts=True) == [6, 5, 1]
    assert await seqs(store, acts=True, limit=1) == [6, 5, 1]
    assert await seqs(store, by="ann") == [6, 1]
    assert await seqs(store, by="ann", run_id=a) == [1]
    assert await seqs(store, by="bob") == await seqs(store, by="ann (for bob)") == [1]
    assert [await seqs(store, by=other) for other in ("an%", "ob", "BOB", "(for bob)", "b" * 40)] == [[]] * 5
    assert await seqs(store, since_us=T0 + 120_000_000) == [9, 8, 7, 6, 5, 4]
    assert await seqs(store, until_us=T0 + 240_000_000) == [5, 4, 3, 2, 1]
    assert await seqs(store, since_us=T0 + 120_000_000, until_us=T0 + 240_000_000) == [5, 4]
    assert await seqs(store, since_us=T0 + 999_000_000) == []


@pytest.mark.parametrize("filter", [{"kinds": ("rare",)}, {"host": "x"}, {"by": "zoe"}])
async def test_a_rare_event_is_found_in_bounded_pages(
    store: Store, monkeypatch: pytest.MonkeyPatch, filter: dict[str, object]
) -> None:
    """Each page looks at so many events, may be empty, and is continued where it stopped."""
    monkeypatch.setattr(events, "_LOOKED_AT", 7)
    often = [Notice(kind="often", host="h", by="ann") for _ in range(40)]
    rare = Notice(kind="rare", host="x", by="zoe")
    await store.apply([rare, *often[:20], rare, *often[20:]], at_us=T0)
    page = await store.events_before(0, filter=EventFilter(**filter), limit=5)  # type: ignore[arg-type] # passed on
    assert (list(page.events), page.next_seq) == ([], 36)
    assert await seqs(store, **filter) == [22, 1]


async def test_a_page_of_large_events_ends_with_the_one_that_fills_it(store: Store) -> None:
    """In each order, and by number; what is left out comes with the next page. Heads are of any size without them."""
    large = Notice(kind="large", host="h", data={"extras_json": "x" * (PAGE_BYTES * 2 // 3)})
    await store.apply([large] * 5, at_us=T0)

    def told(page: EventPage) -> tuple[list[int], int]:
        return [event.seq for event in page.events], page.next_seq

    assert [told(await store.events_after(seq, limit=9)) for seq in (0, 2, 4)] == [([1, 2], 2), ([3, 4], 4), ([5], 0)]
    pages = [await store.events_before(seq, filter=EventFilter(), limit=9) for seq in (0, 4, 2)]
    assert list(map(told, pages)) == [([5, 4], 4), ([3, 2], 2), ([1], 0)]
    assert told(await store.events_of([2, 3, 5], limit=9)) == ([5, 3], 3)
    heads = await store.events_before(0, filter=EventFilter(), limit=9, heads=True)
    assert (told(heads), [event.data for event in heads.events]) == (([5, 4, 3, 2, 1], 0), [{}] * 5)
