"""Steps that will not stop when they are asked to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_pool = ThreadPoolExecutor(2)


def _here(marker: str) -> None:
    """Tell the test that the code runs, and in which process."""
    Path(marker).write_text(str(os.getpid()))


def tight_loop(*, marker: str, **_: object) -> None:
    _here(marker)
    while True:
        pass


def unaware(*, marker: str) -> None:
    _here(marker)
    while True:
        time.sleep(0.01)


async def async_tight_loop(*, marker: str, **_: object) -> None:
    _here(marker)
    while True:
        pass


async def sleeps_in_async(*, marker: str, **_: object) -> None:
    _here(marker)
    time.sleep(600)


async def swallows_cancel(*, marker: str, **_: object) -> None:
    _here(marker)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(600)


def swallows_everything(*, marker: str, **_: object) -> None:
    _here(marker)
    while True:
        with contextlib.suppress(BaseException):
            while True:
                time.sleep(0.01)


def runs_sleep(*, marker: str, **_: object) -> None:
    _here(marker)
    subprocess.run(["sleep", "600"], check=True)


def deaf_to_sigterm(*, marker: str, **_: object) -> None:
    _here(marker)
    script = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        Path(f"{marker}.child").write_text(str(child.pid))
        child.wait()


async def deaf_worker(*, marker: str, **_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _here(marker)
    while True:
        with contextlib.suppress(BaseException):
            while True:
                pass


def daemonises(*, marker: str, **_: object) -> None:
    """Leave a daemon in its own session, with an empty environment, then return."""
    script = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "with open(sys.argv[1] + '.new', 'w') as file: file.write(str(os.getpid()))\n"
        "os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "time.sleep(600)\n"
    )
    subprocess.run([sys.executable, "-c", script, f"{marker}.child"], env={}, check=True)
    while not Path(f"{marker}.child").exists():
        time.sleep(0.005)
    _here(marker)


async def daemonises_async(*, marker: str, **_: object) -> None:
    await asyncio.to_thread(daemonises, marker=marker)


def daemonises_and_stays(*, marker: str, **_: object) -> None:
    daemonises(marker=marker)
    while True:
        time.sleep(0.01)


def holds_the_gil(*, marker: str, **_: object) -> None:
    _here(marker)
    sum(range(10**13))


async def holds_the_gil_async(*, marker: str, **_: object) -> None:
    _here(marker)
    sum(range(10**13))


async def leaves_a_thread(*, marker: str, **_: object) -> int:
    threading.Thread(target=unaware, kwargs={"marker": marker}).start()
    while not Path(marker).exists():  # a file says it
        await asyncio.sleep(0.005)
    return 7


async def leaves_polite_thread(*, ctx: object, marker: str, **_: object) -> int:
    def work() -> None:
        while not ctx.is_cancelled():
            time.sleep(0.01)
        Path(f"{marker}.end").write_text("asked")

    threading.Thread(target=work).start()
    _here(marker)
    return 5


async def leaves_executor_work(*, marker: str, **_: object) -> int:
    _pool.submit(unaware, marker=marker)
    while not Path(marker).exists():  # a file says it
        await asyncio.sleep(0.005)
    return 3


async def leaves_a_task(*, marker: str, **_: object) -> int:
    async def background() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            Path(f"{marker}.end").write_text("cancelled")

    leaves_a_task.kept = asyncio.create_task(background())
    await asyncio.sleep(0)
    _here(marker)
    return 1


async def to_thread_outlives(*, marker: str, **_: object) -> None:
    await asyncio.to_thread(tight_loop, marker=marker)


def poisons_its_own_socket(*, marker: str, **_: object) -> None:
    _here(marker)
    for fd in range(3, 60):
        with contextlib.suppress(OSError):
            os.write(fd, b"\0\0\0\2\0\0\0\0{]")
    time.sleep(600)
