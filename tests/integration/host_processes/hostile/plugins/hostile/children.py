"""Coroutines whose child processes run on after a cancel, or after the step has returned."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

_SCRIPTS = {
    "ends_at_sigterm": "echo $$ >$0.child; mv $0.child $0; exec sleep 600",
    "has_a_child": "sleep 600 & echo $! >$0.child; mv $0.child $0; wait",
    "ignores_sigterm": "trap '' TERM; echo $$ >$0.child; mv $0.child $0; while :; do sleep 0.05; done",
    "has_a_child_that_ignores_sigterm": "(trap '' TERM; exec sleep 600) & echo $! >$0.child; mv $0.child $0; wait",
}
_ORPHAN = "sleep 600 >/dev/null 2>&1 & echo $! >$0.child; mv $0.child $0"
_pools: list[object] = []


async def _child(marker: str, script: str) -> asyncio.subprocess.Process:
    """Start a child, which writes the pid that must end into the file *marker*."""
    return await asyncio.create_subprocess_exec("sh", "-c", _SCRIPTS[script], marker)


async def forgets_its_child(*, marker: str, script: str, **_: object) -> None:
    await (await _child(marker, script)).wait()


async def waits_for_its_child(*, marker: str, script: str, **_: object) -> None:
    child = await _child(marker, script)
    try:
        await child.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        await child.wait()


async def runs_its_child_in_a_thread(*, marker: str, script: str, **_: object) -> None:
    await asyncio.to_thread(subprocess.run, ["sh", "-c", _SCRIPTS[script], marker])


async def calls_system_in_a_thread(*, marker: str, script: str, **_: object) -> None:
    await asyncio.to_thread(os.system, f"exec sh -c {shlex.quote(_SCRIPTS[script])} {shlex.quote(marker)}")


async def returns_before_its_child(*, marker: str, script: str, **_: object) -> int:
    await _child(marker, script)
    while not Path(marker).exists():  # a file says it
        await asyncio.sleep(0.005)
    return os.getpid()


async def leaves_a_process(*, marker: str, how: str, **_: object) -> int:
    """Leave a process that was started without `subprocess`."""
    if how == "posix_spawn":
        pid = os.posix_spawn("/bin/sleep", ["sleep", "600"], {})
    else:
        process = multiprocessing.get_context(how).Process(target=time.sleep, args=(600,))
        process.start()
        pid = process.pid
    Path(marker).write_text(str(pid))
    return os.getpid()


async def keeps_a_pool(*, kept: bool, **_: object) -> int:
    """Leave a pool, which replaces each of its processes that dies, in its thread."""
    pool = multiprocessing.Pool(2)
    assert pool.apply(os.getppid) == os.getpid()
    if kept:
        _pools.append(pool)
    return os.getpid()


async def starts_many(*, threads: int, each: int, **_: object) -> int:
    """Start processes in several threads at once, and leave them."""

    def start() -> None:
        for _ in range(each):
            os.posix_spawn("/bin/sleep", ["sleep", "600"], {})

    sys.setswitchinterval(1e-6)
    try:
        await asyncio.gather(*(asyncio.to_thread(start) for _ in range(threads)))
    finally:
        sys.setswitchinterval(0.005)
    return os.getpid()


async def runs_short_children(*, count: int, **_: object) -> int:
    """Run children one after the other, in a thread of its own."""
    for _ in range(count):
        await asyncio.to_thread(subprocess.run, ["true"], check=True)
    return os.getpid()


async def leaves_short_orphans(*, count: int, **_: object) -> int:
    """Run commands that each leave a child, which ends by itself."""
    for _ in range(count):
        await (await asyncio.create_subprocess_exec("sh", "-c", "true &")).wait()
    return os.getpid()


async def leaves_an_orphan(*, marker: str, go: str, **_: object) -> None:
    """Leave a process whose parent has ended, once *go* exists."""
    await (await asyncio.create_subprocess_exec("sh", "-c", _ORPHAN, marker)).wait()
    while not Path(go).exists():  # a file says it
        await asyncio.sleep(0.005)


async def leaves_an_orphan_of_c_code(*, marker: str, go: str, **_: object) -> None:
    """Do so with `os.system`."""
    os.system(f"sh -c {shlex.quote(_ORPHAN)} {shlex.quote(marker)}")
    while not Path(go).exists():  # a file says it
        await asyncio.sleep(0.005)


async def has_a_helper_of_c_code(*, marker: str, go: str, **_: object) -> dict[str, bool]:
    """Have C code start a process in a thread of the executor; tell whether it lives once *go* exists."""
    libc = ctypes.CDLL(None)
    libc.popen.restype = ctypes.c_void_p
    command = f"echo $$ >{marker}.child; mv {marker}.child {marker}; exec sleep 600"
    await asyncio.to_thread(libc.popen, command.encode(), b"r")
    while not Path(go).exists():  # a file says it
        await asyncio.sleep(0.005)
    pid = int(Path(marker).read_text())
    lives = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return {"lives": lives}
