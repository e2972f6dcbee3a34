"""Every way to fail."""

from __future__ import annotations

import asyncio
import builtins
import ctypes
import logging
import os
import resource
import signal
import sys
import threading

from nomaflow import StepCancelled, StepFailed

_log = logging.getLogger(__name__)


class Mute(Exception):
    """Cannot be told."""

    def __str__(self):
        raise ValueError("no text")

    __repr__ = __str__


class Locked(Exception):
    """Cannot be pickled."""

    def __init__(self, lock):
        super().__init__("holds a lock")
        self.lock = lock


class FinalFailure(StepFailed):
    """An author's own kind of failure."""


def _deeper(n):
    if n:
        _deeper(n - 1)
    raise LookupError("no rows returned — upstream issue")


async def step_failed(**_):
    raise StepFailed("no invoices to aggregate — check the upstream job")


async def step_failed_mute(**_):
    raise StepFailed


async def own_step_failed(**_):
    raise FinalFailure("our own words")


async def step_cancelled(**_):
    raise StepCancelled("nothing to do on a holiday")


async def cancelled_error(**_):
    raise asyncio.CancelledError


def cancelled_error_sync(**_):
    raise asyncio.CancelledError("by hand")


async def any_error(**_):
    _log.info("before it fails")
    _deeper(2)


async def chained(**_):
    try:
        _deeper(0)
    except LookupError as error:
        raise RuntimeError("could not refresh") from error


async def group(**_):
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_fail_later("first"))
        tasks.create_task(_fail_later("second"))


async def _fail_later(name):
    await asyncio.sleep(0)
    raise RuntimeError(name)


async def system_exit(**_):
    sys.exit(3)


def system_exit_sync(**_):
    raise SystemExit("enough")


async def keyboard_interrupt(**_):
    raise KeyboardInterrupt


def stop_iteration(**_):
    raise StopIteration


async def stop_async_iteration(**_):
    raise StopAsyncIteration("odd")


async def generator_exit(**_):
    raise GeneratorExit


async def mute(**_):
    raise Mute


async def unpicklable(**_):
    raise Locked(threading.Lock())


async def endless_text(**_):
    raise ValueError("x" * 3_000_000)


async def odd_text(**_):
    raise ValueError("line one\nline two\x00\ud800\x1b[31mred")


async def recursion(**_):
    def again(n):
        return again(n + 1)

    return again(0)


async def base_exception(**_):
    raise BaseException("of the barest kind")


async def syntax(**_):
    exec(compile("1 +", "made.sql", "exec"))


async def deep_group(**_):
    error = ValueError("leaf")
    for number in range(40):
        error = ExceptionGroup(f"level {number}", [error, ValueError("side")])
    raise error


async def timeout_error(**_):
    async with asyncio.timeout(0):
        await asyncio.sleep(5)


async def noted(**_):
    error = ValueError("bad row")
    error.add_note("row 17 of invoices.csv")
    raise error


def exits(**_):
    _log.info("the last line before the end")
    print("printed before the end", flush=True)
    os._exit(3)


async def exits_async(**_):
    _log.info("the last line before the end")
    os._exit(0)


def segfaults(**_):
    _log.info("the last line before the end")
    ctypes.string_at(0)


def killed(**_):
    _log.info("the last line before the end")
    os.kill(os.getpid(), signal.SIGKILL)


def terminated(**_):
    _log.info("the last line before the end")
    os.kill(os.getpid(), signal.SIGTERM)


def aborted(**_):
    _log.info("the last line before the end")
    os.abort()


def out_of_memory(**_):
    _log.info("the last line before the end")
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    hoard = []
    while True:
        hoard.append(bytearray(64 << 20))


def rebinds_builtins(**_):
    builtins.len = builtins.isinstance = builtins.open = builtins.type = None
    return 1


def rebinds_json(**_):
    import json
    import time

    json.dumps = json.loads = time.time_ns = time.monotonic = None
    return 1


def survivor(**_):
    return len("four")
