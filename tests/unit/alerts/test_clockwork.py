"""The work of the alerts that no event causes, with a kernel that answers as the test says."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

from alerts_rig import START, Rig, section

from nomaflow.client import NotFound
from nomaflow_alerts.event_batches import fold
from nomaflow_alerts.ledger import Ledger
from nomaflow_alerts.rules.runs import Findings
from nomaflow_alerts.rules.system import sight_system
from nomaflow_alerts.timed_work import Clockwork


class KernelWithoutRuns:
    """Knows no run: retention has removed them all."""

    async def get_run(self, run_id: str) -> None:
        """Say that there is no such run."""
        raise NotFound(f"there is no run {run_id!r}", reason="RUN_NOT_FOUND")


async def test_a_run_that_retention_has_removed_is_watched_no_more() -> None:
    """Its end was not seen, and never will be; the others are looked at all the same."""
    rig = Rig()
    rig.job(on_long_run_minutes=5)
    ledger = Ledger(None, clock=lambda: rig.now)
    await ledger.open()
    for kind in ("run.queued", "run.started"):
        event = rig.event(kind, run_id="gone", job_id="nightly")
        await ledger.run(
            partial(
                fold, events=[event], through=event.seq, findings=Findings(), policies=rig.policies, store="sqlite",
                quiet=True,
            )
        )  # fmt: skip
    rig.now += 400
    absent: Any = None
    work = Clockwork(
        ledger=ledger, alerts=rig.alerts, policies=rig.policies, calls=KernelWithoutRuns(),  # type: ignore[arg-type]
        intake=SimpleNamespace(caught_up=True, quiet=True),  # type: ignore[arg-type]  # what it asks of them, and no more
        sender=absent, composer=absent, details=absent,
    )  # fmt: skip
    turning = asyncio.create_task(work.run())
    async with asyncio.timeout(10):
        while await ledger.run(lambda book: book.watched.open_runs()):
            await asyncio.sleep(0.01)
    assert await ledger.run(lambda book: book.open_incidents()) == []
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)
    await ledger.close()


async def test_a_kernel_that_ends_while_its_history_is_read_is_told() -> None:
    """A silent kernel is told at once; findings of the history wait for its end, which may never come."""
    rig = Rig(alerts=section(group_wait_seconds=0))
    ledger = Ledger(None, clock=lambda: rig.now)
    await ledger.open()

    async def no_details(_: Any) -> dict[int, Any]:
        return {}

    work = Clockwork(
        ledger=ledger, alerts=rig.alerts, policies=rig.policies, calls=KernelWithoutRuns(),  # type: ignore[arg-type]
        intake=SimpleNamespace(caught_up=False, quiet=True),  # type: ignore[arg-type]
        sender=SimpleNamespace(wake=lambda: None),  # type: ignore[arg-type]
        composer=rig.composer, details=SimpleNamespace(of=no_details),  # type: ignore[arg-type]
    )  # fmt: skip
    await ledger.run(lambda book: sight_system(book, "load_refused", rig.policies, at=book.now, why="no", host="team"))
    await work._turn()
    assert await ledger.run(lambda book: book.outbox.listed()) == []
    await ledger.run(lambda book: sight_system(book, "kernel_silent", rig.policies, at=book.now, why="gone"))
    await work._turn()
    [told] = await ledger.run(lambda book: book.outbox.listed())
    assert told.subject == "the kernel is silent"
    await ledger.close()


def test_a_run_of_a_preset_that_takes_long_is_over_with_its_end() -> None:
    """Of very many such runs the kernel is not asked, so that their preset is not known."""
    rig = Rig()
    rig.job(on_long_run_minutes=5)
    rig.event("run.queued", run_id="r", job_id="nightly")
    rig.event("run.started", run_id="r", job_id="nightly")
    rig.wait(360)
    assert rig.open() == ["long_run"]
    rig.ends("SUCCEEDED", run_id="r", preset="eu")
    assert rig.open() == []


def test_nothing_was_due_while_a_job_was_switched_off() -> None:
    """It is switched on again with the same schedule: only what is due from then on can be late."""
    rig = Rig()
    rig.job(schedule="0 * * * *", late_after_minutes=30)
    rig.turn()
    rig.job(late_after_minutes=30)
    rig.turn()
    rig.now = START + 5 * 3600 + 60
    rig.job(schedule="0 * * * *", late_after_minutes=30)
    rig.turn()
    rig.turn()
    assert rig.open() == []
    rig.now = START + 6 * 3600 + 1801
    rig.turn()
    assert rig.incident("late").facts["slot"] == START + 6 * 3600


def test_a_run_is_late_though_the_clock_was_a_year_ahead() -> None:
    """Runs expected of that year are not waited for, and an incident that is late by it is over with the next run."""
    rig = Rig()
    rig.job(schedule="0 * * * *", late_after_minutes=30)
    rig.event("run.queued", run_id="r", job_id="nightly")
    rig.turn()
    rig.now += 365 * 86_400
    rig.event("run.started", run_id="r", job_id="nightly")
    rig.wait(3600)
    assert rig.open() == ["late"]
    rig.now = START + 60
    rig.ends("SUCCEEDED", run_id="r")
    rig.turn()
    assert rig.open() == []
    rig.wait(3600 + 1801)
    assert rig.incident("late").facts["slot"] == START + 3600


def test_whatever_is_told_says_that_a_recipient_is_no_channel() -> None:
    """Also what no event causes: a run that takes long, one that does not start, one that is late."""
    rig = Rig()
    rig.job(
        schedule="0 13 * * *", late_after_minutes=1, never_started_minutes=1, on_long_run_minutes=1, recipients=["ann"]
    )
    for run_id in ("waits", "runs"):
        rig.event("run.queued", run_id=run_id, job_id="nightly")
    rig.event("run.started", run_id="runs", job_id="nightly")
    rig.turn()
    rig.now = START + 3700
    rig.turn()
    for condition in ("late", "never_started", "long_run"):
        assert rig.incident(condition).facts["unknown"] == ["ann"]
