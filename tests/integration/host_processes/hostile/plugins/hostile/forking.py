"""Steps that fork, and come back in both processes or in one."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

_log = logging.getLogger(__name__)


def _forked(marker: str) -> int:
    """Fork, and say in which process the child runs."""
    pid = os.fork()
    if pid == 0:
        _log.info("logged by the child")
        print("printed by the child")
    else:  # the child may be killed as it writes
        Path(f"{marker}.child").write_text(str(pid))
    return pid


async def returns_in_both(*, marker: str, **_: object) -> int:
    return 1 if _forked(marker) else 2


async def awaits_in_both(*, marker: str, **_: object) -> int:
    pid = _forked(marker)
    await asyncio.sleep(0.01)
    return 1 if pid else 2


async def raises_in_the_child(*, marker: str, **_: object) -> int:
    if _forked(marker) == 0:
        raise ValueError("raised by the child")
    return 1


async def forks_in_a_task(*, marker: str, **_: object) -> int:
    pid = await asyncio.create_task(returns_in_both(marker=marker))
    return 1 if pid == 1 else 2


async def forks_in_a_callback(*, marker: str, **_: object) -> int:
    called = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: called.set_result(_forked(marker)))
    return 1 if await called else 2


async def forks_in_to_thread(*, marker: str, **_: object) -> int:
    return 1 if await asyncio.to_thread(_forked, marker) else 2


async def forks_in_a_thread(*, marker: str, **_: object) -> int:
    thread = threading.Thread(target=_forked, args=(marker,))
    thread.start()
    while thread.is_alive():  # a thread sets no event here
        await asyncio.sleep(0.005)
    return 1


async def child_stays(*, marker: str, **_: object) -> int:
    """Return while the child keeps running."""
    if _forked(marker) == 0:
        while True:
            os.sched_yield()
    return 1


def sync_returns_in_both(*, marker: str, **_: object) -> int:
    return 1 if _forked(marker) else 2


def sync_raises_in_the_child(*, marker: str, **_: object) -> int:
    if _forked(marker) == 0:
        raise ValueError("raised by the child")
    return 1


def _square(number: int) -> int:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lambda: number * number).result()


async def _in_a_loop(number: int) -> int:
    await asyncio.sleep(0)
    return await asyncio.to_thread(_square, number)


def _square_in_a_loop(number: int) -> int:
    return asyncio.run(_in_a_loop(number))


def processes(*, method: str, **_: object) -> int:
    """Use processes in each of the ways that the standard library has."""
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        squares = list(pool.map(_square, range(4))) + list(pool.map(_square_in_a_loop, range(4)))
    child = context.Process(target=print, args=(f"printed by a {method} child",))
    child.start()
    child.join()
    return sum(squares) + int(child.exitcode or 0)


async def processes_async(*, method: str, **_: object) -> int:
    return await asyncio.to_thread(processes, method=method)


async def processes_on_the_loop(*, method: str, **_: object) -> int:
    return processes(method=method)


def children(**_: object) -> int:
    """Fork and leave, fork and become another program, run programs."""
    codes = []
    if (pid := os.fork()) == 0:
        print("printed before os._exit")
        os._exit(3)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    if (pid := os.fork()) == 0:
        os.execv(sys.executable, [sys.executable, "-c", "print('printed after exec'); raise SystemExit(4)"])
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    codes.append(subprocess.run(["sh", "-c", "echo from a program; exit 5"], check=False).returncode)
    codes.append(subprocess.run(["sh", "-c", "exit 6"], check=False, preexec_fn=os.getpid).returncode)
    return sum(codes)


async def children_async(**_: object) -> int:
    process = await asyncio.create_subprocess_exec("sh", "-c", "echo from an async child; exit 7")
    return children() + await process.wait()
