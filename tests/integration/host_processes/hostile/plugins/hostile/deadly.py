"""Steps that end their process."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys

_log = logging.getLogger(__name__)


def exits(**_: object) -> None:
    _log.info("the last line before os._exit")
    os._exit(3)


def segfaults(**_: object) -> None:
    _log.info("the last line before the fault")
    _fault()


async def segfaults_async(**_: object) -> None:
    await asyncio.sleep(0)
    _fault()


async def segfaults_in_a_thread(**_: object) -> None:
    await asyncio.to_thread(_fault)


def forks_a_segfault(**_: object) -> int:
    pid = os.fork()
    if pid == 0:
        _fault()
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


def _fault() -> None:
    ctypes.string_at(0)


def killed(**_: object) -> None:
    _log.info("the last line before the kill")
    os.kill(os.getpid(), signal.SIGKILL)


async def exits_async(**_: object) -> None:
    os._exit(4)


def kills_the_reaper(**_: object) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def eats_memory(**_: object) -> None:
    hoard = []
    while True:
        hoard.append(bytearray(8 * 1024 * 1024))


def has_many_processes(**_: object) -> None:
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(20)]
    for child in children:
        child.wait()


def leaves_daemon_and_dies(*, marker: str, **_: object) -> None:
    from hostile.stubborn import daemonises

    daemonises(marker=marker)
    sys.stdout.flush()
    os._exit(5)
