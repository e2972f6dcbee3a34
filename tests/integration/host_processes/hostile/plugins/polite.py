"""Steps that behave, each showing one thing."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import logging
import logging.config
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nomaflow import StepCancelled, StepFailed

_log = logging.getLogger(__name__)
_quiet = logging.getLogger("quiet")
_quiet.propagate = False


def noop(**_: object) -> None:
    """Return at once."""


async def anoop(**_: object) -> None:
    """Return at once."""


async def athread(**_: object) -> None:
    await asyncio.to_thread(noop)


def whoami(**_: object) -> dict[str, object]:
    return {"pid": os.getpid(), "ppid": os.getppid(), "random": random.random(), "threads": threading.active_count()}


async def awhoami(**_: object) -> dict[str, object]:
    return whoami()


async def waits(*, marker: str, **_: object) -> None:
    Path(marker).write_text(str(os.getpid()))
    await asyncio.sleep(600)


def _plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@_plainly
async def waits_behind_a_wrapper(*, marker: str) -> None:
    await waits(marker=marker)


async def waits_for(*, marker: str, **_: object) -> int:
    """Run until the file is there."""
    Path(f"{marker}.running").write_text(str(os.getpid()))
    while not Path(marker).exists():  # a file says it
        await asyncio.sleep(0.005)
    return 11


async def waits_without_looking(**_: object) -> None:
    await asyncio.Event().wait()


async def has_children_until(*, marker: str, **_: object) -> int:
    """Have a child of each usual kind while it runs."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1) as pool, subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
        await loop.run_in_executor(pool, os.getpid)
        system = asyncio.create_task(asyncio.to_thread(os.system, f"until [ -e {marker} ]; do sleep 0.05; done"))
        spawned = os.posix_spawn("/bin/sleep", ["sleep", "600"], {})
        await waits_for(marker=marker)
        await system
        child.kill()
        os.kill(spawned, signal.SIGKILL)
    return 2


def polls(*, ctx: object, marker: str, **_: object) -> int:
    Path(marker).write_text(str(os.getpid()))
    while not ctx.is_cancelled():
        time.sleep(0.005)
    return 42


def raises(*, what: str, **_: object) -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    class Leaving(Exception):
        def __str__(self) -> str:
            raise SystemExit(3)

    class Text(str):
        __slots__ = ()

        def __format__(self, _spec: str) -> str:
            raise RuntimeError("no form")

        def __len__(self) -> int:
            raise SystemExit(4)

    class Texting(Exception):
        def __str__(self) -> str:
            return Text("said in a text of its own kind")

    errors = {
        "value": ValueError("a bad value"),
        "failed": StepFailed("said so"),
        "cancelled": StepCancelled("enough"),
        "asyncio": asyncio.CancelledError(),
        "exit": SystemExit(3),
        "keyboard": KeyboardInterrupt(),
        "group": ExceptionGroup("both", [ValueError("one"), KeyError("two")]),
        "told_group": ExceptionGroup("unread", [StepFailed("no rows"), StepFailed("no feed")]),
        "cancelled_group": ExceptionGroup("unread", [ExceptionGroup("", [StepCancelled("a holiday")])]),
        "mixed_group": ExceptionGroup("half", [StepCancelled("a holiday"), ValueError("one")]),
        "hostile": Hostile(),
        "leaving": Leaving(),
        "texting": Texting(),
        "base": BaseException("bare"),
    }
    raise errors[what]


def raises_the_unspeakable(**_: object) -> None:
    class Kind(type):
        @property
        def __name__(cls) -> str:
            raise SystemExit(5)

    class Unspeakable(Exception, metaclass=Kind):
        """An exception of a class without a name."""

    raise Unspeakable


async def araises(*, what: str, **_: object) -> None:
    raises(what=what)


async def exit_in_a_task(**_: object) -> int:
    async def leave() -> None:
        raise SystemExit(9)

    await asyncio.gather(asyncio.create_task(leave()), return_exceptions=True)
    return 2


def raises_in_threads(**_: object) -> None:
    thread = threading.Thread(target=raises, kwargs={"what": "value"})
    thread.start()
    thread.join()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(raises, what="value").result()


def gives_work(*, pieces: int, **_: object) -> int:
    """Give an executor pieces of work that all wait for the first."""
    given = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(given.wait)
        work = [pool.submit(int, 1) for _ in range(pieces)]
        given.set()
        return sum(each.result() for each in work)


def copies_ctx(*, ctx: object, **_: object) -> dict[str, object]:
    copied = dataclasses.asdict(copy.deepcopy(pickle.loads(pickle.dumps(ctx))))
    return {name: copied[name] for name in ("run_id", "step_name", "attempt")}


def makes_a_file(*, marker: str) -> None:
    Path(marker).touch()


def returns_nonsense(**_: object) -> object:
    return object()


async def logs_everywhere(*, tag: str, **_: object) -> None:
    """Log in every way there is."""
    _log.debug("%s debug", tag)
    _log.info("%s info", tag)
    _quiet.warning("%s quiet", tag)
    print(f"{tag} printed")
    print(f"{tag} on stderr", file=sys.stderr)
    warnings.warn(f"{tag} warned", stacklevel=1)
    thread = threading.Thread(target=_log.info, args=(f"{tag} thread",))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_log.info, f"{tag} executor").result()
    await asyncio.to_thread(_log.info, f"{tag} to_thread")
    await asyncio.create_task(_log_later(tag))
    try:
        raise LookupError(f"{tag} lost")
    except LookupError:
        _log.exception("%s caught", tag)
    _log.info("%s %d", tag, "not a number")
    print(f"{tag} no newline", end="")
    print(f"{tag} an open end on stderr", end="", file=sys.stderr)


async def _log_later(tag: str) -> None:
    await asyncio.sleep(0)
    _log.info("%s task", tag)


def configures(**_: object) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "root": {"level": "ERROR", "handlers": []},
            "handlers": {"own": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}},
            "loggers": {"own": {"handlers": ["own"], "propagate": False, "level": "INFO"}},
        }
    )
    _log.info("after dictConfig")
    logging.getLogger("own").info("own logger")


def logs_richly(**_: object) -> None:
    from rich.logging import RichHandler

    rich = logging.getLogger("rich")
    rich.addHandler(RichHandler())
    rich.info("said richly")


def attributes(**_: object) -> dict[str, object]:
    seen = {}

    class Look(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            seen.update(run_id=record.run_id, step=record.step, attempt=record.attempt)
            return True

    logger = logging.getLogger("attributes")
    logger.addFilter(Look())
    logger.info("look")
    return seen


def floods(*, count: int, **_: object) -> int:
    for number in range(count):
        _log.info("line %07d %s", number, "x" * 60)
    return count


def writes_bytes(**_: object) -> None:
    os.write(1, b"raw \xff\xfe bytes\n")
    sys.stdout.buffer.write(b"buffered \xe9\n")
    _log.info("surrogate \udcff and \ud800")
    _log.info("y" * 200_000)
    subprocess.run(["sh", "-c", "echo from a child; echo child error >&2"], check=True)


async def child_in_shared(**_: object) -> None:
    process = await asyncio.create_subprocess_exec("sh", "-c", "echo from an async child")
    await process.wait()


def progresses(*, ctx: object, **_: object) -> None:
    for number in range(1000):
        ctx.progress(number, 999, f"at {number}")


def forks_and_logs(**_: object) -> None:
    pid = os.fork()
    if pid == 0:
        _log.info("from a forked child")
        print("printed by a forked child")
        os._exit(0)
    os.waitpid(pid, 0)
    _log.info("parent goes on")


def environment(*, name: str, **_: object) -> dict[str, object]:
    return {"value": os.environ.get(name)}


def nice(**_: object) -> int:
    return os.nice(0)


def burns(*, seconds: float, **_: object) -> None:
    until = time.process_time() + seconds
    hoard = bytearray(64 * 1024 * 1024)
    while time.process_time() < until:
        hoard[0] = 1


async def speaks_and_waits(*, marker: str, **_: object) -> None:
    print("speaking")
    await waits_for(marker=marker)


def tells(*, secret: str, ctx: object, **_: object) -> None:
    """Tell a credential in every way there is, then fail with it."""
    import base64
    from urllib.parse import quote

    _log.info("record %s", secret)
    print("printed in", secret[:4], end="", sep="")
    print(secret[4:])
    print("encoded", base64.b64encode(f"user:{secret}".encode()).decode(), quote(secret, safe=""))
    os.write(1, b"raw " + secret[:3].encode())
    os.write(1, secret[3:].encode() + b"\n")
    os.write(2, b"x" * 65_530 + secret.encode() + b"\n")
    subprocess.run([sys.executable, "-c", "import sys; print('child', sys.argv[1])", secret], check=True)
    if os.fork() == 0:
        _log.warning("forked %s", secret)
        os._exit(0)
    os.wait()
    ctx.progress(1, 2, f"progress {secret}")
    raise ValueError(f"cannot log in with {secret}")


def grows(*, megabytes: int, **_: object) -> dict[str, int]:
    """Keep memory for good, as a library that leaks does."""
    grows.__dict__.setdefault("kept", []).append(b"x" * (megabytes << 20))
    return {"pid": os.getpid()}
