"""Steps that misbehave in every way."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import logging
import os
import signal
import sys
import threading

_log = logging.getLogger(__name__)


async def winds_down(**_):
    """Cancel all other tasks, as many servers do at their end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return {"others": len(others)}


async def cancels_everything(**_):
    _log.info("cancelling")
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(0)
    return 1


async def cancels_itself(**_):
    asyncio.current_task().cancel()
    await asyncio.sleep(10)


async def stops_the_loop(**_):
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return 2


async def tampers_with_the_loop(**_):
    loop = asyncio.get_running_loop()
    loop.set_task_factory(None)
    loop.set_exception_handler(lambda *_: None)
    loop.set_debug(True)
    loop.set_default_executor(__import__("concurrent.futures").futures.ThreadPoolExecutor(1))
    return await asyncio.to_thread(int, 3)


def closes_descriptors(**_):
    _log.info("closing")
    os.closerange(3, 200)
    return 1


def closes_standard_streams(**_):
    _log.info("closing")
    os.closerange(0, 3)
    print("printed all the same")
    return 1


def alarmed(**_):
    _log.info("waiting")
    signal.alarm(1)
    threading.Event().wait()


def redirects(**_):
    with contextlib.redirect_stdout(io.StringIO()) as kept:
        print("for its author only")
    print("for everybody")
    return len(kept.getvalue())


def prints_without_end(**_):
    for _n in range(2000):
        sys.stdout.write("x" * 10_000)


async def odd_progress(*, ctx):
    ctx.progress(float("nan"), float("inf"), "not a number")
    await asyncio.sleep(0.15)
    ctx.progress(1, 2, "\ud800" * 5)
    await asyncio.sleep(0.15)
    ctx.progress(1, 2, "m" * 5_000_000)
    await asyncio.sleep(0.15)
    ctx.progress(10**400 if False else 3, 4, "end")


async def huge_progress(*, ctx):
    ctx.progress(10**400)


def odd_records(**_):
    logging.getLogger("odd\ud800name").info("odd name")
    logging.getLogger("n" * 100_000).info("long name")
    _log.log(10**20, "high level")
    logging.getLogger("odd.level").setLevel(-100)
    logging.getLogger("odd.level").log(-5, "negative level")
    record = logging.makeLogRecord({"msg": "made by hand", "levelno": 20, "levelname": "INFO", "name": "made"})
    logging.getLogger("made").handle(record)
    record = logging.makeLogRecord({"msg": "no time", "levelno": 20, "name": "made", "created": None})
    with contextlib.suppress(Exception):
        logging.getLogger("made").handle(record)
    record = logging.makeLogRecord({"msg": "no name", "levelno": 20, "name": None})
    with contextlib.suppress(Exception):
        logging.getLogger("made").handle(record)
    _log.info("after")


def odd_class(**_):
    raise type("Odd\ud800Error", (ValueError,), {"__module__": None})("odd")


def long_class(**_):
    raise type("E" * 1_000_000, (ValueError,), {})("long")


def deep_class(**_):
    kind = ValueError
    for number in range(500):
        kind = type(f"Level{number}", (kind,), {})
    raise kind("deep")


def prints_odd_things(**_):
    print(b"bytes", None, object, end="\n\n")
    print("tab\tand\rreturn")
    sys.stdout.writelines(["one\n", "two\n"])
    sys.stdout.write("")
    with contextlib.suppress(TypeError):
        sys.stdout.write(b"no text")
    print(sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.fileno())


async def closes_the_loop_of_others(**_):
    loop = asyncio.get_running_loop()
    with contextlib.suppress(RuntimeError):
        loop.close()
    with contextlib.suppress(RuntimeError):
        loop.run_until_complete(asyncio.sleep(0))
    return 1


class Lying:
    """Says that it can be awaited, and cannot."""

    def __await__(self):
        raise RuntimeError("no")


async def returns_a_liar(**_):
    return Lying()


def sync_returns_awaitable(**_):
    return Lying()


@functools.lru_cache
def cached(n: int):
    return n


def neighbour(**_):
    _log.info("well")
    return 1


async def neighbour_async(*, gate: str = "", **_):
    _log.info("well")
    while gate and not os.path.exists(gate):
        await asyncio.sleep(0.01)
    return 1
