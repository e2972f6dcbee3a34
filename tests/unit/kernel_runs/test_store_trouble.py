"""A store that refuses: who asked hears of it once, and what the store never kept is not believed."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from rig import PlayedHost, Rig, finished, job, started

from nomaflow_kernel.engine.host_messages import HeartbeatInfo
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.errors import StoreBusy, StoreError, StoreFull, StoreUnavailable


class Refusing:
    """Stands in for the store's ``apply``: waits until it is released, then raises; passes on later calls."""

    def __init__(self, rig: Rig, error: StoreError) -> None:
        self._apply: Any = rig.store.apply
        self._error = error
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.refused = 0

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse the first call."""
        if self.refused:
            return await self._apply(*args, **kwargs)
        self.refused += 1
        self.asked.set()
        await self.go.wait()
        raise self._error


async def test_a_session_that_could_not_be_kept_is_none(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose attach failed was told so: nothing is dispatched to it until it comes again."""
    rig.jobs.add(job("a"))
    run_id = (await rig.trigger("a")).run_id
    refusing = Refusing(rig, StoreFull("no space"))
    refusing.go.set()
    monkeypatch.setattr(rig.store, "apply", refusing)
    host = PlayedHost(rig)
    with pytest.raises(StoreFull):
        await host.attach()
    await rig.settle()
    assert rig.engine.instances() == []
    assert host.orders == []
    assert await rig.state(run_id) is RunState.QUEUED
    await host.attach()
    assert (await host.dispatch()).run_id == run_id


@pytest.mark.parametrize(("in_doubt", "orders"), [(False, 1), (True, 2)])
async def test_orders_are_sent_again_only_where_a_commit_is_in_doubt(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, in_doubt: bool, orders: int
) -> None:
    """A store that stays full fails a commit every two seconds, and each order may have megabytes."""
    rig.jobs.add(job("a"), job("b"))
    host = await rig.host()
    await rig.trigger("a")
    await host.dispatch()
    refusing = Refusing(rig, StoreUnavailable("away", outcome_unknown=in_doubt))
    refusing.go.set()
    monkeypatch.setattr(rig.store, "apply", refusing)
    with pytest.raises(StoreUnavailable):
        await rig.trigger("b")
    await rig.settle()
    assert len(host.orders) == orders


async def test_nobody_waits_twice_for_one_lock(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls made during the wait for a lock get STORE_BUSY with the earlier ones, and are not done; answers stay."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    refusing = Refusing(rig, StoreBusy("locked"))
    monkeypatch.setattr(rig.store, "apply", refusing)
    first = asyncio.ensure_future(rig.trigger("a"))
    await refusing.asked.wait()
    second = asyncio.ensure_future(rig.trigger("a"))
    rig.engine.detach(host.key, host)
    await asyncio.sleep(0)
    refusing.go.set()
    for asked in (first, second):
        with pytest.raises(StoreBusy):
            await asked
    await rig.settle()
    assert refusing.refused == 1
    assert rig.engine.instances() == []
    assert not any(event.run_id for event in await rig.events())


async def test_waiting_runs_that_could_not_be_read_are_read_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's data is read after a restart when its turn comes; if that fails once, it starts later."""
    rig.jobs.add(job("a"))
    run_id = (await rig.trigger("a")).run_id
    await rig.restart()
    real: Any = rig.store.run_details
    asked: list[object] = []

    async def failing(run_ids: Any) -> Any:
        monkeypatch.setattr(rig.store, "run_details", real)
        asked.append(list(run_ids))
        raise StoreUnavailable("the connection broke")

    monkeypatch.setattr(rig.store, "run_details", failing)
    host = PlayedHost(rig)
    await host.attach()
    assert (await host.dispatch()).run_id == run_id
    assert asked == [[run_id]]


async def test_trouble_is_told_also_where_nobody_asked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure to store the engine's own work is reported to the kernel's health."""
    host = await rig.host()
    refusing = Refusing(rig, StoreFull("no space"))
    refusing.go.set()
    monkeypatch.setattr(rig.store, "apply", refusing)
    rig.engine.detach(host.key, host)
    await refusing.asked.wait()
    await rig.settle()
    assert [type(error) for error in rig.troubles] == [StoreFull]


async def test_a_full_store_is_asked_less_and_less_often(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that could start, but cannot be stored as started, makes the engine neither spin nor forget it."""
    rig.jobs.add(job("a"))
    run_id = (await rig.trigger("a")).run_id
    host = PlayedHost(rig, generation=0)
    await host.attach()
    asked: list[float] = []

    async def full(*_args: Any, **_kwargs: Any) -> Any:
        asked.append(asyncio.get_running_loop().time())
        raise StoreFull("no space")

    with monkeypatch.context() as failing:
        failing.setattr(rig.store, "apply", full)
        rig.engine.heartbeat(host.key, HeartbeatInfo(generation=1))
        async with asyncio.timeout(60):
            while len(asked) < 5:
                await asyncio.sleep(0.01)
    waits = [after - before for before, after in pairwise(asked)]
    assert [wait > least for wait, least in zip(waits[1:], (0.1, 0.2, 0.5), strict=True)] == [True, True, True]
    assert (await host.dispatch()).run_id == run_id


@pytest.mark.parametrize("kind", ["host.detached", "host.unreachable"])
async def test_watchers_hear_of_a_host_that_went_away_meanwhile(rig: Rig, kind: str) -> None:
    """The absence is known in memory: it is told with the next commit if its own fails."""
    host = await rig.host()
    if kind == "host.detached":
        rig.fail_once()
        rig.engine.detach(host.key, host)
    else:
        host.silent = True
        await rig.advance(1)
        rig.fail_once()
        rig.clock.advance(1.5)
        rig.engine._loop.wake()
    async with asyncio.timeout(5):
        while [event.kind for event in await rig.events()] != ["host.attached", kind]:
            await asyncio.sleep(0.01)


async def test_runs_that_nobody_will_start_end_although_the_store_failed(rig: Rig) -> None:
    """Runs that a change of the catalogue ends are ended once the store takes it."""
    rig.jobs.add(job("a", host="mistyped"))
    run_id = (await rig.trigger("a")).run_id
    await rig.advance(60)
    rig.jobs.add(job("a"))
    rig.fail_once()
    rig.engine.jobs_changed()
    async with asyncio.timeout(5):
        while await rig.state(run_id) is not RunState.CANCELED:
            await asyncio.sleep(0.01)


async def test_watchers_hear_of_what_a_commit_in_doubt_has_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchers get the events of a commit whose answer was lost, as if it had not been."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    real: Any = rig.store.apply

    async def doubtful(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(rig.store, "apply", real)
        await real(*args, **kwargs)
        raise StoreUnavailable("the answer was lost", outcome_unknown=True)

    monkeypatch.setattr(rig.store, "apply", doubtful)
    before = rig.feed.last_seq
    with pytest.raises(StoreUnavailable):
        await host.report(key, started(), finished())
    await rig.settle()
    told = rig.feed.tail_after(before, limit=999)
    assert await rig.state(run_id) is RunState.SUCCEEDED
    assert told is not None
    assert [event.kind for event in told] == ["attempt.started", "attempt.finished", "run.finished"]
    assert rig.feed.last_seq == (await rig.events())[-1].seq


async def test_a_commit_in_doubt_can_be_done_no_more_once_the_state_is_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write comes first, since a server may still work on the commit; where the outcome is known, none does."""
    asked: list[str] = []
    ping, active_runs = rig.store.ping, rig.store.active_runs

    async def noted_ping() -> None:
        asked.append("write")
        await ping()

    async def noted_active_runs(*args: Any, **kwargs: Any) -> Any:
        asked.append("read")
        return await active_runs(*args, **kwargs)

    monkeypatch.setattr(rig.store, "ping", noted_ping)
    monkeypatch.setattr(rig.store, "active_runs", noted_active_runs)
    rig.jobs.add(job("a"))
    for error in (StoreFull("no space"), StoreUnavailable("the answer was lost", outcome_unknown=True)):
        with monkeypatch.context() as failing:
            refusing = Refusing(rig, error)
            refusing.go.set()
            failing.setattr(rig.store, "apply", refusing)
            with pytest.raises(type(error)):
                await rig.trigger("a")
        await rig.settle()
    assert asked == ["read", "write", "read"]


@pytest.mark.parametrize("seconds", [-3600, 3600])
async def test_a_hosts_clock_makes_no_duration_negative(rig: Rig, seconds: int) -> None:
    """An attempt begins between its dispatch and the report of its start, whatever its host's clock says."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    rig.clock.advance(1)
    await host.report(key, started(rig.clock.now_us() + seconds * 1_000_000))
    detail = await rig.detail(run_id)
    [attempt] = detail.attempts
    assert attempt.dispatched_at_us is not None
    assert attempt.started_at_us is not None
    assert attempt.dispatched_at_us <= attempt.started_at_us <= rig.clock.now_us()


async def test_a_clock_that_was_set_back_makes_no_duration_negative(rig: Rig) -> None:
    """A run that ends after the clock was set back by an hour ends no earlier than it began, even after a restart."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.start(key)
    rig.clock.wall_us -= 3600 * 1_000_000
    await rig.restart()
    await host.attach()
    await host.finish(key)
    detail = await rig.detail(run_id)
    [attempt] = detail.attempts
    times = [
        detail.run.queued_at_us, detail.run.started_at_us, attempt.started_at_us,
        attempt.finished_at_us, detail.run.finished_at_us,
    ]  # fmt: skip
    assert None not in times
    assert times == sorted(times, key=lambda at_us: at_us or 0)
