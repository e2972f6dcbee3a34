"""Events in batches: each is a commit. A quiet time outlives the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alerts_rig import Rig, section
from msgspec.structs import replace

from nomaflow.client import KernelUnreachable
from nomaflow.client.values import EventView, KernelView, ReasonView
from nomaflow_alerts.event_batches import fold
from nomaflow_alerts.intake import Intake
from nomaflow_alerts.ledger import Ledger
from nomaflow_alerts.rules.policies import Policies
from nomaflow_alerts.rules.runs import Findings
from nomaflow_alerts.usual_times import Samples


async def test_events_that_come_one_after_the_other_are_one_batch() -> None:
    """A commit for each would be a flush of the disk for each, while the kernel waits for its own."""
    no_part: Any = None
    intake = Intake(
        calls=no_part, stream=no_part, ledger=Ledger(None), policies=Policies(section()),
        changed=lambda: None, heard=lambda: None,
    )  # fmt: skip
    intake._queue.put_nowait(1)
    for number in (2, 3):
        asyncio.get_running_loop().call_soon(intake._queue.put_nowait, number)
    assert await intake._batch() == [1, 2, 3]


async def test_the_end_of_the_reader_ends_the_intake(tmp_path: Path) -> None:
    """Whatever ended it: the process is started again then, and would else wait for events that nobody reads."""
    rig = Rig()
    ledger = Ledger(tmp_path / "alerts.db", clock=lambda: rig.now)
    await ledger.open()
    intake, kernel = _after_a_start(ledger, rig, newest=2)

    async def get_kernel() -> KernelView:
        return kernel

    async def watch_events(**_: Any) -> AsyncIterator[EventView]:
        raise LookupError("an answer that is none")
        yield

    intake._calls.get_kernel = get_kernel  # type: ignore[method-assign]
    client: Any = SimpleNamespace(watch_events=watch_events)
    intake._stream = client
    with pytest.raises(LookupError):
        async with asyncio.timeout(5):
            await intake.run()
    await ledger.close()


async def test_a_stream_is_heard_while_very_many_jobs_are_read(tmp_path: Path) -> None:
    """To read 100,000 of them takes minutes, in which the kernel is not silent."""
    rig = Rig()
    ledger = Ledger(tmp_path / "alerts.db", clock=lambda: rig.now)
    await ledger.open()
    await ledger.run(lambda book: book.set_fact("seq", 2))
    intake, kernel = _after_a_start(ledger, rig, newest=2)
    reading, heard = asyncio.Event(), asyncio.Event()

    async def get_kernel() -> KernelView:
        return kernel

    async def list_jobs() -> None:
        reading.set()
        await asyncio.Event().wait()

    async def watch_events(*, on_bookmark: Any, **_: Any) -> AsyncIterator[EventView]:
        await reading.wait()
        on_bookmark(2)
        await asyncio.Event().wait()
        yield EventView(seq=3, at=None, kind="kernel.started")

    intake._calls.get_kernel = get_kernel  # type: ignore[method-assign]
    intake._calls.list_jobs = list_jobs  # type: ignore[method-assign,assignment]
    intake._heard = heard.set
    await _take_in(intake, watch_events, until=heard)
    await ledger.close()


async def test_a_failure_after_events_is_logged_though_the_one_before_was_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While it lasts it is logged once. A kernel that goes away in the next night is told of again."""
    monkeypatch.setattr("nomaflow_alerts.intake._AGAIN_SECONDS", 0.0)
    rig = Rig()
    ledger = Ledger(tmp_path / "alerts.db", clock=lambda: rig.now)
    await ledger.open()
    await ledger.run(lambda book: book.set_fact("seq", 2))
    intake, kernel = _after_a_start(ledger, rig, newest=3)
    there, taken_in, over = iter([False, False, True, False, False]), asyncio.Event(), asyncio.Event()

    async def get_kernel() -> KernelView:
        answers = next(there, None)
        if answers is None:
            over.set()
            await asyncio.Event().wait()
        if not answers:
            raise KernelUnreachable("no kernel answers")
        return kernel

    async def watch_events(*, on_bookmark: Any, **_: Any) -> AsyncIterator[EventView]:
        on_bookmark(3)
        await taken_in.wait()
        raise KernelUnreachable("no kernel answers")
        yield

    intake._calls.get_kernel = get_kernel  # type: ignore[method-assign]
    intake._changed = taken_in.set
    await _take_in(intake, watch_events, until=over)
    await ledger.close()
    assert caplog.messages.count("events cannot be read: no kernel answers") == 2


async def test_another_kernel_is_asked_who_it_is_before_anything_of_it_is_taken_in(tmp_path: Path) -> None:
    """One that leads since the events are read may have another history: the numbers of its events mean nothing."""
    rig = Rig()
    ledger = Ledger(tmp_path / "alerts.db", clock=lambda: rig.now)
    await ledger.open()
    await ledger.run(lambda book: book.set_fact("seq", 3))
    await ledger.run(lambda book: book.set_fact("store_id", "one"))
    intake, kernel = _after_a_start(ledger, rig, newest=3)
    kernels, over = iter([kernel, replace(kernel, store_id="another")]), asyncio.Event()

    async def get_kernel() -> KernelView:
        return next(kernels)

    async def watch_events(*, after_seq: int, from_start: bool, **_: Any) -> AsyncIterator[EventView]:
        if from_start:
            over.set()
            await asyncio.Event().wait()
        yield EventView(seq=after_seq + 1, at=None, kind="kernel.leading")
        await asyncio.Event().wait()

    intake._calls.get_kernel = get_kernel  # type: ignore[method-assign]
    await _take_in(intake, watch_events, until=over)
    assert await ledger.run(lambda book: (book.fact("seq"), book.fact("store_id"))) == ("0", "another")
    await ledger.close()


async def test_a_kernel_that_is_away_holds_up_no_batch() -> None:
    """It is asked about one of the events, and each question takes seconds: failures are told without the answers."""
    asked: list[str] = []

    async def get_run(run_id: str) -> Any:
        asked.append(run_id)
        raise KernelUnreachable("no kernel answers")

    rig = Rig()
    client: Any = SimpleNamespace(get_run=get_run)
    child = ReasonView(code="child_failed", message="its run failed")
    events = [
        EventView(
            seq=seq,
            at=None,
            kind="run.finished",
            run_id=f"run_{seq}",
            job_id="nightly",
            run_state="FAILED",
            reason=child,
        )
        for seq in range(1, 1001)
    ]
    assert await Samples(client=client, policies=rig.policies).findings(events) == Findings()
    assert asked == ["run_1"]


async def _take_in(intake: Intake, watch_events: Any, *, until: asyncio.Event) -> None:
    """Have a process take in a stream of events until one that the test knows of, and end it."""
    client: Any = SimpleNamespace(watch_events=watch_events)
    intake._stream = client
    taking = asyncio.create_task(intake.run())
    async with asyncio.timeout(5):
        await until.wait()
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)


def _after_a_start(ledger: Ledger, rig: Rig, *, newest: int) -> tuple[Intake, KernelView]:
    """Return the intake of a process that has just begun, and its kernel."""
    kernel = KernelView(version="1", epoch=1, pid=1, store="sqlite", store_id="one", last_event_seq=newest)

    async def list_events(**_: Any) -> Any:
        return SimpleNamespace(events=[SimpleNamespace(seq=newest)])

    async def list_jobs() -> Any:
        raise KernelUnreachable("what is known stays")

    calls: Any = SimpleNamespace(list_events=list_events, list_jobs=list_jobs)
    no_part: Any = None
    intake = Intake(
        calls=calls, stream=no_part, ledger=ledger, policies=rig.policies,
        changed=lambda: None, heard=lambda: None,
    )  # fmt: skip
    return intake, kernel


async def test_what_a_killed_process_has_found_in_silence_is_told_by_the_next(tmp_path: Path) -> None:
    """It had read a part of the history: what it found there is in the file, and nobody was told of it.

    One that begins after more than a day reads in silence, too.
    """
    rig = Rig()
    rig.job()
    ledger = Ledger(tmp_path / "alerts.db", clock=lambda: rig.now)
    await ledger.open()
    first, kernel = _after_a_start(ledger, rig, newest=2)
    assert await first._begin(kernel) == (0, True)
    assert first.quiet
    event = rig.event("run.finished", run_id="run_1", job_id="nightly", run_state="FAILED", data={"host": "team"})
    await ledger.run(
        partial(
            fold, events=[event], through=1, findings=Findings(), policies=rig.policies, store="sqlite",
            quiet=first.quiet,
        )
    )  # fmt: skip

    second, kernel = _after_a_start(ledger, rig, newest=2)
    assert await second._begin(kernel) == (1, False)
    assert second.quiet
    await second._catch_up()
    [notice] = await ledger.run(lambda book: book.notices())
    assert (notice.kind, notice.incident.job_id) == ("found", "nightly")
    for pause, quiet in ((86_400, False), (86_401, True)):
        rig.now += pause
        third, kernel = _after_a_start(ledger, rig, newest=2)
        await third._begin(kernel)
        assert third.quiet is quiet
        rig.now -= pause
    await ledger.close()


async def test_what_a_process_could_not_read_for_days_is_told(tmp_path: Path) -> None:
    """It was there all the time, and the kernel was away or out of its reach: each failure is reported."""
    rig = Rig()
    ledger = Ledger(tmp_path / "alerts.db", clock=lambda: rig.now)
    await ledger.open()
    await ledger.run(lambda book: book.set_fact("seq", 2))
    await ledger.run(lambda book: book.set_fact("cursor_at", book.now))
    intake, kernel = _after_a_start(ledger, rig, newest=2)
    await intake._begin(kernel)
    rig.now += 2 * 86_400
    await intake._begin(kernel)
    assert not intake.quiet
    await ledger.close()
