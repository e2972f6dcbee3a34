"""Steps that meddle with the process they run in."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import io
import logging
import math
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from nomaflow import RunContext


def _descriptors(kind: str) -> Iterator[int]:
    """Yield this process's descriptors of a kind, as /proc names it."""
    for name in os.listdir("/proc/self/fd"):
        try:
            found = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if kind in found:
            yield int(name)


def _close_the_connection() -> None:
    """Close the one socket whose other end is another process's: the host's."""
    for fd in _descriptors("socket:"):
        with socket.socket(fileno=os.dup(fd)) as each:
            if each.family == socket.AF_UNIX:
                peer, _, _ = struct.unpack("3i", each.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                if peer not in (0, os.getpid()):
                    os.close(fd)


async def logs_under_a_long_name(**_: object) -> int:
    logging.getLogger("long." + "x" * 2_000_000).info("said under a long name")
    return 1


async def reports_at_length(*, ctx: RunContext, **_: object) -> int:
    ctx.progress(1, 2, "at length " + "x" * 70_000_000)
    return 1


async def closes_all(**_: object) -> int:
    os.closerange(3, 256)
    await asyncio.sleep(0.05)
    return 1


async def closes_the_lowest(**_: object) -> int:
    os.closerange(0, 11)
    await asyncio.sleep(0.05)
    return 1


def closes_all_in_a_thread(**_: object) -> None:
    os.closerange(3, 256)
    time.sleep(600)


async def closes_the_connection(**_: object) -> None:
    _close_the_connection()
    await asyncio.sleep(600)


def closes_the_connection_in_a_thread(**_: object) -> None:
    _close_the_connection()
    time.sleep(600)


async def closes_the_selector(**_: object) -> None:
    for fd in _descriptors("eventpoll"):
        os.close(fd)
    await asyncio.sleep(600)


async def overwrites_the_header(**_: object) -> None:
    for fd in _descriptors("nomaflow-ring"):
        with mmap.mmap(fd, 0) as page:
            page[0:1024] = b"\xa5" * 1024
    print("x")
    await asyncio.sleep(600)


async def overwrites_a_line(*, marker: str = os.devnull, **_: object) -> int:
    print("before")
    print("overwritten")
    with mmap.mmap(next(_descriptors("nomaflow-ring")), 0) as page:
        at = page.rfind(b"[", 0, page.find(b"overwritten"))
        page[at : at + 10] = b"\xff" * 10
    print("after")
    Path(marker).write_text("done")
    return 1


async def truncates_its_memory(**_: object) -> int:
    for fd in _descriptors("nomaflow-ring"):
        try:
            os.ftruncate(fd, 0)
        except PermissionError:
            print("refused")
    return 1


async def patches_asyncio(**_: object) -> int:
    async def never(*_: object, **__: object) -> None:
        raise RuntimeError("patched")

    asyncio.sleep = asyncio.wait = asyncio.create_task = never
    asyncio.Task = None
    return 1


async def sets_handlers(**_: object) -> int:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda *_: None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 600)
    return 1


async def has_a_child_that_fails(**_: object) -> int:
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    process = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
    return await process.wait()


def has_a_child_that_fails_in_a_thread(**_: object) -> int:
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    return subprocess.run(["sh", "-c", "exit 3"], check=False).returncode


def filters_warnings(*, action: Literal["error", "ignore"]) -> int:
    warnings.simplefilter(action)
    return 1


def warns() -> int:
    warnings.warn("of its own", stacklevel=1)
    return 1


async def sets_a_wakeup_descriptor(**_: object) -> int:
    here, _there = socket.socketpair()
    here.setblocking(False)
    signal.set_wakeup_fd(here.fileno())
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print, "signaled")
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0.01)
    return 1


async def replaces_the_streams(**_: object) -> int:
    sys.stdout.close()
    sys.stdout = io.StringIO()
    sys.stderr = None
    print("into nowhere")
    return 1


async def stops_the_loop(**_: object) -> int:
    asyncio.get_event_loop().stop()
    await asyncio.sleep(0.01)
    return 1


async def closes_the_loop(**_: object) -> int:
    asyncio.get_event_loop().stop()
    thread = threading.Thread(target=asyncio.get_event_loop().close)
    thread.start()
    await asyncio.sleep(0.02)
    return 1


async def shuts_the_executor_down(**_: object) -> int:
    await asyncio.get_running_loop().shutdown_default_executor()
    return 1


async def sets_an_executor_and_closes_it(**_: object) -> int:
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        return int((await asyncio.to_thread(threading.current_thread)).name.startswith("mine"))


async def unsets_the_loop(**_: object) -> int:
    loop = asyncio.get_running_loop()
    asyncio.set_event_loop(None)
    loop.set_task_factory(None)
    loop.set_exception_handler(lambda *_: 1 / 0)
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)
    return 1


async def renames_itself(**_: object) -> int:
    ctypes.CDLL(None).prctl(15, b") R 1 1 (x", 0, 0, 0)
    threading.current_thread().name = "\udcff"
    return 1


async def lowers_the_limits(**_: object) -> int:
    sys.setrecursionlimit(60)
    await asyncio.sleep(0)
    return 1


def freezes_the_reaper(**_: object) -> None:
    os.kill(os.getppid(), signal.SIGSTOP)
    os._exit(7)


async def recurses(**_: object) -> int:
    return await recurses() + 1


async def sends_descriptors(**_: object) -> int:
    """Send the host descriptors beside frames that name none, on the worker's own connection."""
    link = next(each for each in gc.get_objects() if type(each).__name__ == "_HostLink")
    body = b'{"is":"progress","slot":-1}'
    for _number in range(10):
        socket.send_fds(link._link._sock, [struct.pack("!II", len(body), 0) + body], [0] * 16)
    return 1


async def tells_an_endless_number(**_: object) -> None:
    """Send the host a number that no integer holds, on the worker's own connection, and wait."""
    link = next(each for each in gc.get_objects() if type(each).__name__ == "_HostLink")
    link.send({"is": "progress", "slot": 0, "at_us": math.inf, "done": 1, "total": None, "message": ""})
    await asyncio.Event().wait()
