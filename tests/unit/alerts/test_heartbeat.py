"""The kernel's state as the alerts see it, and the heartbeat, which goes out only while all is well."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from alerts_rig import section

from nomaflow.client import KernelUnreachable
from nomaflow.client.values import EventView
from nomaflow_alerts.heartbeat import Pulse
from nomaflow_alerts.ledger import Ledger, Message
from nomaflow_alerts.rules.policies import JobFacts, Policies, Timetable
from receivers import WebReceiver
from waiting import eventually

HOUR = 3600.0
HALF_PAST_TEN = datetime(2026, 11, 2, 10, 30, tzinfo=UTC).timestamp()


class Kernel:
    """A kernel that answers, or not."""

    def __init__(self) -> None:
        self.there = self.serves = True
        self.job = SimpleNamespace(pause=None, next_fires=("soon",))
        self.runs: list[Any] = []

    async def get_kernel(self) -> None:
        """Answer."""
        if not self.there:
            raise KernelUnreachable("no kernel answers")

    async def is_serving(self) -> bool:
        """Answer."""
        return self.serves

    async def get_job(self, _: str) -> Any:
        """Answer."""
        await self.get_kernel()
        return self.job

    async def list_runs(self, **_: Any) -> AsyncIterator[Any]:
        """Answer."""
        for run in self.runs:
            yield run


class Watch:
    """The pulse of a kernel, and clocks that stand still."""

    def __init__(self, **keys: Any) -> None:
        alerts = section(**keys)
        self.now, self.passed = HALF_PAST_TEN, 0.0
        self.kernel, self.ledger, self.policies = Kernel(), Ledger(None), Policies(alerts)
        self.pulse = Pulse(
            calls=self.kernel, ledger=self.ledger, alerts=alerts, policies=self.policies,  # type: ignore[arg-type]
            changed=lambda: None, clock=lambda: self.now, steady=lambda: self.passed,
        )  # fmt: skip

    async def after(self, seconds: float, *, events: bool = True) -> str:
        """Let time pass, ask the kernel and return why all is not well."""
        self.now += seconds
        self.passed += seconds
        if events:
            self.pulse.heard()
        await self.pulse._ask()
        return await self.pulse._not_well()

    async def open(self) -> list[str]:
        """Return why, for each open incident."""
        return await self.ledger.run(lambda book: [each.why for each in book.open_incidents()])


@contextlib.asynccontextmanager
async def watching(**keys: Any) -> AsyncIterator[Watch]:
    """Give a watch that ends with the test."""
    watch = Watch(**keys)
    await watch.ledger.open()
    try:
        yield watch
    finally:
        await watch.ledger.close()


async def test_a_kernel_without_events_is_silent() -> None:
    """A kernel that answers calls but sends no events counts as silent: nobody would hear of failures."""
    async with watching(kernel_silent_seconds=20) as watch:
        assert await watch.after(0, events=False) == "the kernel's events do not arrive"
        await watch.after(31, events=False)
        assert await watch.open() == ["it answers, but its events do not arrive; 0 runs were running, 0 were waiting"]
        assert await watch.after(1) == ""
        assert await watch.open() == []


async def test_a_kernel_that_is_away_for_a_moment_is_no_incident() -> None:
    """A restart of the kernel opens no incident; a longer absence opens one, which ends with the absence."""
    async with watching(kernel_silent_seconds=20) as watch:
        assert await watch.after(0) == ""
        watch.kernel.there = False
        assert await watch.after(19, events=False) == "the kernel does not answer"
        assert await watch.open() == []
        for _ in range(3):
            await watch.after(2, events=False)
        [why] = await watch.open()
        assert why.startswith("no kernel answers; ")
        watch.kernel.there = True
        assert await watch.after(1) == ""
        assert await watch.open() == []


async def test_a_silence_says_how_many_fires_pass_by_if_the_jobs_are_known() -> None:
    """A process that began after the kernel had ended knows none, and must not say that nothing is due."""
    for known in (True, False):
        async with watching() as watch:
            if known:
                hourly(watch)
            watch.kernel.there = False
            await watch.after(61, events=False)
            [why] = await watch.open()
            assert why.endswith("; 1 fire due within an hour") == known
            assert ("due" in why) == known


@pytest.mark.parametrize("jump", [7200, -7200])
async def test_a_clock_that_is_set_makes_no_silence_and_hides_none(jump: float) -> None:
    """Nor does a machine that was suspended: nothing has passed meanwhile."""
    async with watching(kernel_silent_seconds=20) as watch:
        assert await watch.after(5) == ""
        watch.now += jump
        assert await watch.after(5, events=False) == ""
        assert await watch.open() == []
        watch.kernel.there = False
        await watch.after(21, events=False)
        [why] = await watch.open()
        assert why.startswith("no kernel answers; ")


async def test_a_kernel_that_cannot_write_is_an_incident() -> None:
    """A kernel that answers but cannot write opens an incident, and no heartbeat goes out meanwhile."""
    async with watching() as watch:
        watch.kernel.serves = False
        assert await watch.after(1) == "the kernel cannot write to its store"
        [why] = await watch.open()
        assert "often its disk is full" in why
        watch.kernel.serves = True
        assert await watch.after(1) == ""
        assert await watch.open() == []


async def test_a_channel_that_takes_no_message_stops_the_heartbeat() -> None:
    """No heartbeat goes out until the channel has taken a message again."""
    message = Message(id="m1", channel="ops", kind="opened", subject="s", body="b", created_at=0.0, next_at=0.0)
    async with watching() as watch:
        await watch.ledger.run(lambda book: book.outbox.add(message))
        await watch.ledger.run(lambda book: book.outbox.failed(message, "no", again_at=None))
        assert await watch.after(1) == "the last message of ops could not be delivered"
        await watch.ledger.run(lambda book: book.outbox.sent(message))
        assert await watch.after(1) == ""


def hourly(watch: Watch) -> None:
    """Let a job be due at each full hour."""
    watch.policies.learn(JobFacts("hourly", timetables=(Timetable("", "0 * * * *", "UTC"),)))


async def test_a_due_job_without_a_run_stops_the_heartbeat() -> None:
    """No heartbeat goes out once a job has been due for five minutes without a run; a late run ends that."""
    async with watching() as watch:
        hourly(watch)
        assert await watch.after(0) == ""
        assert await watch.after(34 * 60) == ""
        for _ in range(2):
            assert await watch.after(60) == "hourly was due at 11:00:00 UTC and has no run"
        now = datetime.fromtimestamp(watch.now, UTC)
        ended = EventView(seq=1, at=now, kind="run.finished", job_id="hourly", run_state="SUCCEEDED")
        watch.pulse.saw([ended])  # that of an earlier instant
        assert await watch.after(0) == "hourly was due at 11:00:00 UTC and has no run"
        watch.pulse.saw([EventView(seq=2, at=now, kind="run.queued", job_id="hourly")])
        assert await watch.after(60) == ""
        assert await watch.after(HOUR) == "hourly was due at 12:00:00 UTC and has no run"


async def test_what_was_due_by_a_schedule_that_has_changed_is_not_missed() -> None:
    """Else nobody would hear a heartbeat until the job runs by the new one; that is not due before it was made."""
    async with watching() as watch:
        hourly(watch)
        assert await watch.after(0) == ""
        assert await watch.after(14 * 60) == ""
        watch.policies.learn(JobFacts("hourly", timetables=(Timetable("", "40 10 * * *", "UTC"),)))
        for _ in range(30):
            assert await watch.after(60) == ""
        assert await watch.after(24 * HOUR) == "hourly was due at 10:40:00 UTC and has no run"


async def test_a_clock_that_was_years_ahead_hides_no_due_job() -> None:
    """Neither what was due by it nor the rows of that time count once it is set back."""
    ahead = HALF_PAST_TEN + 5 * 365 * 24 * HOUR
    at = datetime.fromtimestamp(ahead, UTC)
    async with watching() as watch:
        hourly(watch)
        watch.now = ahead
        watch.kernel.runs = [SimpleNamespace(preset="", queued_at=at, trigger=SimpleNamespace(at=at), fold=None)]
        watch.pulse.saw([EventView(seq=1, at=at, kind="run.queued", job_id="hourly")])
        assert await watch.after(0) == ""
        watch.now = HALF_PAST_TEN
        assert await watch.after(0) == ""
        assert await watch.after(36 * 60) == "hourly was due at 11:00:00 UTC and has no run"


@pytest.mark.parametrize("why", ["paused", "without fires", "ran unseen", "folded", "kernel away"])
async def test_a_due_job_may_have_no_run(why: str) -> None:
    """Heartbeats go on for a job without fires or paused, if the stream missed its run, or if the kernel is away."""
    at = datetime(2026, 11, 2, 11, 0, 1, tzinfo=UTC)
    run = SimpleNamespace(preset="", queued_at=None, trigger=SimpleNamespace(at=None), fold=None)
    other = SimpleNamespace(preset="other", queued_at=at, trigger=SimpleNamespace(at=at), fold=None)
    async with watching() as watch:
        hourly(watch)
        watch.kernel.runs = [other, run]
        assert await watch.after(0) == ""
        assert await watch.after(36 * 60) == "hourly was due at 11:00:00 UTC and has no run"
        match why:
            case "paused":
                watch.kernel.job.pause = "until Monday"
            case "without fires":
                watch.kernel.job.next_fires = ()
            case "ran unseen":
                run.queued_at = at
            case "folded":
                run.fold = SimpleNamespace(last=at)
            case "kernel away":
                watch.kernel.there = False
        assert await watch.pulse._not_well() == ""


async def test_the_heartbeat_stops_with_the_kernel() -> None:
    """The heartbeat goes out while all is well, and stops while the kernel does not answer."""
    with WebReceiver() as web:
        async with watching(heartbeat_url=f"{web.url}/beat", heartbeat_seconds=0.02) as watch:
            assert await watch.after(0) == ""
            beating = asyncio.create_task(watch.pulse.beat())
            await eventually(lambda: len(web.taken("/beat")) >= 2)
            watch.kernel.there = False
            assert await watch.after(1) == "the kernel does not answer"
            await eventually(lambda: watch.pulse.withheld)
            sent = len(web.taken("/beat"))
            watch.pulse.withheld = ""
            await eventually(lambda: watch.pulse.withheld)
            assert len(web.taken("/beat")) == sent
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
