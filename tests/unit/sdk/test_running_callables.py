"""nomaflow.testing: an author's function with the host's rules, and no server."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import threading
from typing import Any

import pytest

from nomaflow import RunContext, Settings, StepCancelled, StepFailed, StepResult
from nomaflow.testing import FakeConnectors, run_callable, run_callable_sync


async def test_values_are_bound_as_in_a_host() -> None:
    """Injections, coercion, params and the environment all apply."""

    async def work(*, ctx: RunContext, settings: Settings, apps_id: int, region: str, **rest: Any) -> StepResult:
        return StepResult(apps_id, {"region": region, "rest": sorted(rest), "app": settings.app.name, "p": ctx.params})

    outcome = await run_callable(
        work,
        op_kwargs={"apps_id": " 12 "},
        params={"region": "${REGION:-eu}", "spare": 1},
        settings=Settings(app={"name": "demo"}),
        environ={"REGION": "us"},
    )
    assert (outcome.state, outcome.rows_affected) == ("SUCCEEDED", 12)
    assert outcome.extras["region"] == "us"
    assert outcome.extras["rest"] == ["connectors", "spare"]
    assert outcome.extras["app"] == "demo"


@pytest.mark.parametrize(
    ("op_kwargs", "code"),
    [
        ({}, "argument_missing"),
        ({"n": "x"}, "value_invalid"),
        ({"n": 1, "m": 2}, "key_unknown"),
        ({"n": "${NO}"}, "environment_missing"),
    ],
)
async def test_mistakes_come_before_the_call(op_kwargs: dict[str, Any], code: str) -> None:
    """Mistakes that a host reports before the call are reported here too, and nothing is called."""
    called = []

    def work(*, n: int) -> None:
        called.append(n)

    outcome = await run_callable(work, op_kwargs=op_kwargs, environ={})
    assert (outcome.state, outcome.reason_code, outcome.exception, called) == ("FAILED", code, None, [])


class HttpError(Exception):
    """An error of the author's own, whose attribute is none of ours."""

    reason_code = 503


@pytest.mark.parametrize(
    ("error", "state", "code", "text"),
    [
        (HttpError("away"), "FAILED", "step_failed", "HttpError: away"),
        (StepFailed("why"), "FAILED", "step_failed", "why"),
        (StepCancelled("enough"), "CANCELED", "step_cancelled", "enough"),
        (asyncio.CancelledError(), "CANCELED", "raised_by_code", "CancelledError"),
        (ValueError("x"), "FAILED", "step_failed", "ValueError: x"),
        (SystemExit(3), "FAILED", "step_failed", "SystemExit: 3"),
        (KeyboardInterrupt(), "FAILED", "step_failed", "KeyboardInterrupt"),
        (ExceptionGroup("unread", [StepCancelled("enough")]), "CANCELED", "step_cancelled", "enough"),
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_errors(error: BaseException, state: str, code: str, text: str, kind: str) -> None:
    """Each exception has the effect that the contract gives it, sync and async alike."""

    def work() -> None:
        raise error

    async def awork() -> None:
        raise error

    outcome = await run_callable(work if kind == "sync" else awork)
    assert (outcome.state, outcome.reason_code, outcome.error) == (state, code, text)
    assert outcome.exception is error


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_forgotten_await(kind: str) -> None:
    """A coroutine that is never awaited fails the call, as it fails a step."""

    async def write() -> None:
        """Write nothing."""

    def work() -> None:
        write()  # type: ignore[unused-coroutine]

    async def awork() -> None:
        work()

    outcome = await run_callable(work if kind == "sync" else awork)
    assert (outcome.state, outcome.reason_code) == ("FAILED", "never_awaited")
    assert "write' (await it" in outcome.error


async def test_bad_return() -> None:
    """A return that cannot be kept fails with its path."""
    outcome = await run_callable(lambda: {"rows": [{1, 2}]})
    assert (outcome.state, outcome.reason_code) == ("FAILED", "return_invalid")
    assert "extras.rows[0]" in outcome.error


async def test_scripted_cancel() -> None:
    """A coroutine gets CancelledError, a sync loop sees is_cancelled; a result returned nevertheless is kept."""

    async def waits() -> None:
        await asyncio.Event().wait()

    def polls(*, ctx: RunContext) -> int:
        rounds = 0
        while not ctx.is_cancelled():
            rounds += 1
        return rounds

    for waiting in (waits, lambda: waits()):
        outcome = await run_callable(waiting, cancel_after=0.01)
        assert (outcome.state, outcome.reason_code) == ("CANCELED", "canceled_by_user")
    outcome = await run_callable(polls, cancel_after=0.01)
    assert (outcome.state, outcome.reason_code) == ("CANCELED", "canceled_by_user")
    assert outcome.rows_affected is not None
    outcome = await run_callable(waits, timeout=0.01)
    assert (outcome.state, outcome.reason_code) == ("FAILED", "timed_out")


async def test_a_test_can_still_be_cancelled() -> None:
    """A cancel of the test itself is not taken for the callable's outcome."""
    started = asyncio.Event()

    async def waits() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(run_callable(waits))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(("level", "kept"), [("DEBUG", ["quiet", "usual"]), ("INFO", ["usual"]), ("WARNING", [])])
async def test_a_run_s_level_is_that_of_its_log(level: str, kept: list[str]) -> None:
    """Lines below it are not kept, and those at it are, whatever the process has set."""

    async def step(**_: object) -> None:
        logging.getLogger("team").debug("quiet")
        logging.getLogger("team").info("usual")

    assert (await run_callable(step, ctx=RunContext(log_level=level))).logs == kept


async def test_two_calls_at_once_keep_apart() -> None:
    """Each has its own lines, to its own end, and the process is as it was before."""
    before = logging.getLogger().level

    async def step(*, name: str, seconds: float, ctx: RunContext) -> None:
        await asyncio.sleep(seconds)
        ctx.log.info("async %s", name)
        await asyncio.to_thread(logging.getLogger("team").info, "thread %s", name)

    given = ({"name": "a", "seconds": 0}, {"name": "b", "seconds": 0.1})
    first, second = await asyncio.gather(*(run_callable(step, op_kwargs=each) for each in given))
    assert (first.logs, second.logs) == (["async a", "thread a"], ["async b", "thread b"])
    assert logging.getLogger().level == before


async def test_progress_and_logs() -> None:
    """Progress, ctx.log and any logger that reaches the root are kept; the level is put back.

    The given context hears of the progress, too, and says whether the run is canceled.
    """
    level = logging.getLogger().level

    def work(*, ctx: RunContext) -> None:
        ctx.progress(1, 2, "half")
        ctx.log.info("from ctx")
        logging.getLogger("my.own").warning("own %d", 5)
        logging.getLogger("my.own").debug("not heard")

    told: list[tuple[float, float | None, str]] = []
    ctx = RunContext(run_id="r", params={"a": 1}, progress_sink=lambda *args: told.append(args))
    outcome = await run_callable(work, ctx=ctx)
    assert outcome.progress == tuple(told) == ((1, 2, "half"),)
    assert outcome.logs == ["from ctx", "own 5"]
    ctx = RunContext(cancel_check=lambda: True)
    assert (await run_callable(lambda ctx: {"asked": ctx.is_cancelled()}, ctx=ctx)).extras == {"asked": True}
    assert logging.getLogger().level == level


async def test_fake_connectors() -> None:
    """A fake registry answers with what the test brought, and lists it for a wrong name."""
    engine = object()

    def work(*, connectors: Any) -> dict[str, bool]:
        return {"same": connectors.pools.engine("main") is engine, "api": connectors.api("crm") == "fake"}

    fake = FakeConnectors(engines={"main": engine}, connectors={"crm": "fake"})
    assert (await run_callable(work, connectors=fake)).extras == {"same": True, "api": True}
    with pytest.raises(LookupError, match="no pool 'mian' in the test's registry \\(known: 'main'\\)"):
        fake.pools.engine("mian")


async def test_any_callable() -> None:
    """Partials and callable objects run too."""

    @dataclasses.dataclass
    class Tool:
        base: int

        async def __call__(self, *, n: int) -> int:
            return self.base + n

    assert (await run_callable(Tool(5), op_kwargs={"n": "1"})).rows_affected == 6
    assert (await run_callable(functools.partial(lambda a, *, n: a + n, 1), op_kwargs={"n": 2})).rows_affected == 3


def test_sync_variant_leaves_nothing() -> None:
    """The sync variant runs the same thing from a plain test, and leaves no thread."""
    before = set(threading.enumerate())
    assert run_callable_sync(lambda n: n, op_kwargs={"n": 3}).rows_affected == 3
    assert set(threading.enumerate()) <= before
