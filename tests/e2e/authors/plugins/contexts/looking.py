"""Steps that return what their context tells them."""

from __future__ import annotations

import asyncio
import datetime as dt
import pickle

_calls = []


async def surface(*, ctx, **_):
    now = dt.datetime.now(dt.UTC)
    return {
        "run_id": ctx.run_id,
        "job_id": ctx.job_id,
        "trigger": ctx.trigger,
        "is_api": ctx.trigger == "api",
        "by": ctx.trigger.by,
        "at_age": abs((now - ctx.trigger.at).total_seconds()) < 60,
        "prev_rows_affected": ctx.prev_rows_affected,
        "parent_chain": ctx.parent_chain,
        "step_name": ctx.step_name,
        "attempt": ctx.attempt,
        "attempt_key": ctx.attempt_key,
        "params": dict(ctx.params),
        "log_level": ctx.log_level,
        "deadline": None if ctx.deadline is None else round((ctx.deadline - now).total_seconds()),
        "cancelled": ctx.is_cancelled(),
    }


async def rows(*, n: int):
    return {"rows_affected": n, "note": f"made {n}"}


async def much():
    return {"table": "orders", "rows": "x" * 600_000}


async def looks_at_much(*, ctx):
    return {"table": ctx.previous_step("much").extras.get("table")}


async def no_rows():
    return {"note": "none"}


async def looks_back(*, ctx):
    seen = {each.name: [each.state, each.rows_affected, dict(each.extras)] for each in ctx.previous_steps}
    return {
        "prev": ctx.prev_rows_affected,
        "seen": seen,
        "unknown": ctx.previous_step("nope"),
        "off": str(ctx.previous_step("off")),
    }


def frozen(*, ctx):
    try:
        ctx.run_id = "other"
    except AttributeError as error:
        return {"frozen": type(error).__name__}


async def flaky(*, ctx):
    _calls.append(ctx.attempt_key)
    if ctx.attempt < 3:
        raise RuntimeError(f"try {ctx.attempt}")
    return {"key": ctx.attempt_key, "attempt": ctx.attempt}


async def progresses(*, ctx, path):
    ctx.progress(1, 4, "started")
    while not await asyncio.to_thread(_exists, path):
        await asyncio.sleep(0.01)
    ctx.progress(4, 4, "done")


def _exists(path):
    import os

    return os.path.exists(path)


def bad_progress(*, ctx):
    ctx.progress("half")


def sync_progress(*, ctx):
    for number in range(1000):
        ctx.progress(number, 1000)
    ctx.progress(1000, 1000, "end")


async def waits_for_cancel(*, ctx, **_):
    try:
        await asyncio.sleep(600)
    finally:
        ctx.log.info("cancelled: %s", ctx.is_cancelled())


def polls_for_cancel(*, ctx, **_):
    import time

    ctx.log.info("polling")
    while not ctx.is_cancelled():
        time.sleep(0.005)
    return {"rows_affected": 3, "polite": True}


async def settings_seen(*, settings, **_):
    try:
        settings.app.region = "other"
    except AttributeError as error:
        read_only = str(error)
    return {
        "region": settings.app.get("region"),
        "connectors": settings.connectors.config_path,
        "jobs": settings.jobs.config_path,
        "repr": repr(settings),
        "read_only": read_only,
        "contributed": settings.app.get("from_hook"),
    }


async def settings_missing(*, settings):
    return settings.app.regoin


def pickled(*, ctx, settings, **_):
    return {"settings": pickle.loads(pickle.dumps(settings)) == settings}


async def pools(*, connectors, **_):
    from sqlalchemy import text

    async with connectors.pools.engine("main").begin() as conn:
        await conn.execute(text("CREATE TABLE IF NOT EXISTS seen (n INTEGER)"))
        await conn.execute(text("INSERT INTO seen VALUES (1)"))
        count = (await conn.execute(text("SELECT COUNT(*) FROM seen"))).scalar_one()
    with connectors.pools.sync_engine("main").connect() as conn:
        also = conn.execute(text("SELECT COUNT(*) FROM seen")).scalar_one()
    found = await connectors.sql("reads").fetch_all("above", least=0)
    return {"rows_affected": 1, "same": count == also == len(found), "repr": repr(connectors)}


async def wrong_pool(*, connectors):
    return connectors.pools.engine("mian")


async def wrong_connector(*, connectors):
    return connectors.api("reads")


async def leaks_if_it_can(*, connectors, settings, **_):
    """Show everything that might hold the password."""
    import os

    engine = connectors.pools.engine("secretive")
    print(repr(connectors), repr(connectors.pools), engine, engine.url, dict(os.environ), settings)
    async with engine.connect():
        pass


def two_loops(*, connectors):
    from sqlalchemy import text

    async def count():
        async with connectors.pools.engine("main").connect() as conn:
            return (await conn.execute(text("SELECT 1"))).scalar_one()

    return sum(asyncio.run(count()) for _ in range(3))


def original(*, connectors, ctx, settings, **_):
    from liberty.connectors import ConnectorRegistry
    from liberty.jobs.steps.base import RunContext, StepFailed, StepResult

    if not isinstance(connectors, ConnectorRegistry) or not isinstance(ctx, RunContext):
        raise StepFailed("these are not the original's names")
    return StepResult(rows_affected=2, extras={"from": StepResult.__module__})


def added(*, greeting, **_):
    return {"greeting": greeting}
