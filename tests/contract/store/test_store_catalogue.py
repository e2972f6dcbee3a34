"""Manifests, job owners, pauses and pruning."""

from __future__ import annotations

import asyncio
import json
from functools import partial

from store_histories import T0, Ids, finish, logged, opened, queue, start
from store_places import Place

from nomaflow_kernel.history.lookups import EventFilter, ForgottenHost, LogFilter
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.history.transitions import ClearPause, Notice, SetNextFire, SetPause
from nomaflow_kernel.store.sql_store import Store


async def introduce(store: Store, host: str, digest: str, *job_ids: str, explicit: bool = False) -> bool:
    return await store.introduce_manifest(
        host, digest=digest, manifest={"d": digest, "ü": [1]}, job_ids=job_ids, explicit=explicit, at_us=T0
    )


async def test_a_manifest_is_the_catalogue_when_it_is_new_or_meant(store: Store) -> None:
    """A reconnect with an old digest changes nothing, an explicit reload of it does."""
    assert not await store.knows_digest("demo", "m1")
    assert await introduce(store, "demo", "m1", "a")
    assert await store.knows_digest("demo", "m1")
    assert not await store.knows_digest("other", "m1")
    assert await introduce(store, "demo", "m1")
    assert await introduce(store, "demo", "m2", "b", "b")
    assert not await introduce(store, "demo", "m1", "c")
    (found,) = await store.manifests()
    assert (found.digest, json.loads(found.text), found.owned_job_ids) == ("m2", {"d": "m2", "ü": [1]}, {"a", "b"})
    assert await introduce(store, "demo", "m1", "c", explicit=True)
    (found,) = await store.manifests()
    assert (found.digest, found.owned_job_ids) == ("m1", {"a", "b", "c"})


async def test_a_job_belongs_to_the_host_that_first_brought_it(store: Store) -> None:
    """A foreign id is not claimed; forgetting its host releases it and its next fire."""
    await introduce(store, "demo", "m1", "a", "b")
    await introduce(store, "other", "m9", "b", "c")
    owned = {m.host: m.owned_job_ids for m in await store.manifests()}
    assert owned == {"demo": {"a", "b"}, "other": {"c"}}
    await store.apply([SetNextFire(job_id=j, preset="", next_fire_us=1, fingerprint="f") for j in ("a", "c")], at_us=T0)
    forgotten = await store.forget_host("demo", at_us=T0, by="ann")
    assert list(forgotten.job_ids) == ["a", "b"]
    (event,) = (await store.events_after(0, limit=9, filter=EventFilter(kinds=("host.forgotten",)))).events
    assert [event] == list(forgotten.events)
    assert (event.host, event.by, event.data["released_job_ids"]) == ("demo", "ann", ["a", "b"])
    assert await store.forget_host("", at_us=T0) == ForgottenHost(job_ids=[])
    assert [s.job_id for s in await store.schedules()] == ["c"]
    assert not await store.knows_digest("demo", "m1")
    assert await introduce(store, "other", "m10", "b")
    assert {m.host: m.owned_job_ids for m in await store.manifests()} == {"other": {"b", "c"}}


async def test_pauses_are_kept_replaced_and_cleared(store: Store) -> None:
    """One pause per scope and name; one that is not there is not cleared."""
    pause = PauseRecord(scope="job", name="a", by="ann\x00", why="x", since_us=1, until_us=None)
    later = PauseRecord(scope="job", name="a", by="bob", why="y", since_us=2, until_us=3)
    everything = PauseRecord(scope="all", name="", by="bob", why="", since_us=2, until_us=None)
    await store.apply([SetPause(pause=pause)], at_us=T0)
    await store.apply([SetPause(pause=later), SetPause(pause=everything)], at_us=T0)
    found = await store.pauses()
    assert [(p.scope, p.by, p.until_us) for p in found] == [("all", "bob", None), ("job", "bob", 3)]
    assert not (await store.apply([ClearPause(scope="job", name="a")], at_us=T0)).lost
    assert (await store.apply([ClearPause(scope="job", name="a")], at_us=T0)).lost == {0}
    both = [SetPause(pause=pause), ClearPause(scope="job", name="a")]
    assert not (await store.apply(both, at_us=T0)).lost
    assert list(await store.pauses()) == [everything]


async def test_pruning_keeps_the_newest_and_all_that_is_not_terminal(store: Store) -> None:
    """Runs beyond the number kept go with their attempts, logs and events, oldest first, active ones never."""
    ids = Ids()
    runs = [ids.new() for _ in range(8)]
    for i, r in enumerate(runs):
        await store.apply([queue(r, job_id=f"j{i % 2}"), start(r), opened(r), logged(r, 1, 1)], at_us=T0)
    ended = [r for r in runs if r != runs[0]]
    await store.apply([finish(r) for r in ended], at_us=T0)
    assert await store.prune(job_id="j0", keep_runs=1, before_us=None, limit=1) == 1
    assert await store.prune(job_id="j0", keep_runs=1, before_us=None, limit=100) == 1
    assert [d.run.run_id for d in await store.run_details(runs[::2])] == [runs[0], runs[6]]
    assert await store.prune(job_id="", keep_runs=2, before_us=None, limit=100) == 2
    left = [d.run.run_id for d in await store.run_details(runs)]
    assert left == [runs[0], runs[5], runs[6], runs[7]]
    for gone in set(runs) - set(left):
        assert list((await store.events_after(0, limit=9, filter=EventFilter(run_id=gone))).events) == []
        assert (await store.log_page(gone, LogFilter(), limit=1)).chunks == []
    assert await store.prune(job_id="", keep_runs=0, before_us=None, limit=100) == 3
    assert [d.run.run_id for d in await store.run_details(runs)] == [runs[0]]


async def test_a_definition_goes_with_its_last_run_and_comes_back_with_the_next(store: Store, place: Place) -> None:
    """A project that changes often leaves none behind; one that another run has stays, even one of the same commit."""
    ids = Ids()
    runs: list[str] = []

    async def run(definition: str) -> None:
        runs.append(ids.new())
        ended = [queue(runs[-1], definition_digest=definition), start(runs[-1]), finish(runs[-1])]
        await store.apply(ended, at_us=T0)

    async def kept() -> list[tuple[object, ...]]:
        return await place.sql("SELECT digest FROM definitions ORDER BY digest")

    for definition in ("d1", "d2", "d1", "d3"):
        await run(definition)
    for left in (["d1", "d2", "d3"], ["d1", "d3"], ["d3"]):
        await store.prune(job_id="", keep_runs=len(left), before_us=None, limit=1)
        assert await kept() == [(digest,) for digest in left]
    await run("d1")
    assert await kept() == [("d1",), ("d3",)]
    removal = store._write(partial(store._remove_runs, tuple(runs)))
    await asyncio.gather(removal, run("d3"))
    assert await kept() == [("d3",)]


async def test_runs_and_notices_are_pruned_by_age(store: Store) -> None:
    """Runs that finished before the time go, in one job or in all; old notices are asked for by themselves."""
    ids = Ids()
    old, other, young = ids.new(), ids.new(), ids.new()
    await store.apply([queue(old), queue(other, job_id="o"), queue(young)], at_us=T0)
    await store.apply([start(old), start(other), start(young)], at_us=T0)
    hour = 3_600_000_000
    await store.apply(
        [finish(old, at_us=T0 + 1), finish(other, at_us=T0 + 1), finish(young, at_us=T0 + hour)], at_us=T0
    )
    noticed = await store.apply([Notice(kind="host.attached", host="demo")] * 2, at_us=T0)
    assert await store.prune(job_id="nightly", keep_runs=None, before_us=T0 + hour, limit=10) == 1
    assert await store.prune(job_id="", keep_runs=None, before_us=T0 + hour, limit=10) == 1
    assert [d.run.run_id for d in await store.run_details([old, other, young])] == [young]
    assert {e.run_id for e in (await store.events_after(0, limit=50)).events} == {young, ""}
    assert [await store.prune_notices(before_us=T0 + hour, limit=2) for _ in range(2)] == [2, 0]
    assert store.pruned_through_seq == noticed.events[-1].seq
    assert {e.run_id for e in (await store.events_after(0, limit=50)).events} == {young}
    assert await store.prune(job_id="", keep_runs=None, before_us=None, limit=10) == 0


async def test_no_write_waits_while_old_notices_are_searched_for(store: Store, place: Place) -> None:
    """A million instances that came and went are looked at one by one, which takes a reader half a second."""
    await store.apply([Notice(kind="host.attached", host="demo")], at_us=T0)
    (before,) = await place.sql("SELECT commits FROM kernel")
    assert await store.prune_notices(before_us=T0, limit=1) == 0
    assert await place.sql("SELECT commits FROM kernel") == [before]
