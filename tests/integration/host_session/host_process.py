"""A project for hosts that run as processes, and what its tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fake_gateway import FakeGateway, Session

from real_system import Running

__all__ = ["JOBS", "KEY", "WORK", "MakeKernel", "Start", "exit_code", "within_a_step"]

KEY = "run_1/one/1"
WORK = """
import asyncio
import logging
import subprocess
import time
from pathlib import Path

_log = logging.getLogger(__name__)


async def quick(*, n: int = 1, **_):
    _log.info("hello %d", n)
    return {"rows_affected": n, "said": "hello"}


def chatty(*, lines: int, **_):
    for line in range(lines):
        _log.info("line %06d", line)
    return lines


def slow(*, seconds: float, ctx, **_):
    until = time.monotonic() + seconds
    while time.monotonic() < until and not ctx.is_cancelled():
        time.sleep(0.02)
    return 1


def stubborn(**_):
    while True:
        time.sleep(0.1)


def sheds(*, pid_file, **_):
    child = subprocess.Popen(["sleep", "600"], env={}, cwd="/", start_new_session=True)
    Path(pid_file).write_text(str(child.pid))
    child.wait()
"""
JOBS = '[[jobs]]\nid = "j"\n[[jobs.steps]]\ntype = "python"\ncallable = "myapp.work:quick"\n'

Start = Callable[..., Awaitable[Running]]
MakeKernel = Callable[..., Awaitable[FakeGateway]]


async def exit_code(of: Running) -> int:
    """Wait for the end of a host that ends by itself."""
    return await asyncio.to_thread(of.process.wait, 60.0)


async def within_a_step(
    kernels: MakeKernel, start: Start, *, seconds: int, **welcome: int
) -> tuple[FakeGateway, Running, Session]:
    """Start a kernel and a host, and wait until the host runs a step that takes so long if nothing stops it."""
    kernel, mine = await kernels(**welcome), await start()
    session = await kernel.session()
    session.dispatch(KEY, callable="myapp.work:slow", kwargs_json=b'{"seconds": %d}' % seconds)
    await kernel.journal.until(lambda: kernel.journal.kinds(KEY) == ["started"])
    return kernel, mine, session
