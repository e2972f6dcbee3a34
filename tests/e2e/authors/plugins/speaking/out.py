"""Every way to say something."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import logging
import logging.config
import logging.handlers
import os
import queue
import subprocess
import sys
import threading
import time
import warnings

_log = logging.getLogger(__name__)
_quiet = logging.getLogger("speaking.quiet")
_quiet.propagate = False
_own_handler = logging.getLogger("speaking.own")
_own_handler.addHandler(logging.StreamHandler())
_memory = io.StringIO()
_own_handler.addHandler(logging.StreamHandler(_memory))
_pool = concurrent.futures.ThreadPoolExecutor(2)


async def every_way(*, ctx, **_):
    _log.debug("too quiet")
    _log.info("from the module")
    logging.getLogger("a.b.c").warning("from a child %s", "logger")
    logging.info("from the root")
    ctx.log.error("from ctx.log")
    _quiet.info("from one that does not propagate")
    _own_handler.info("from one with handlers")
    try:
        raise LookupError("gone")
    except LookupError:
        _log.exception("with a traceback")
    _log.info("with a stack", stack_info=True)
    _log.info("broken %d", "text")
    _log.info("%(a)s from a mapping", {"a": "named"})
    _log.log(25, "at a level of its own")
    warnings.warn("from warnings", stacklevel=1)
    print("from print")
    print("in", "pieces", sep="-", end="")
    print("", flush=True)
    sys.stderr.write("without an end")
    sys.stderr.write("; from stderr\n")
    sys.stdout.buffer.write(b"from bytes \xff\xfe\n")
    os.write(1, b"from the descriptor\n")
    await asyncio.create_task(_task())
    await asyncio.to_thread(_log.info, "from to_thread")
    await asyncio.get_running_loop().run_in_executor(None, _log.info, "from the default executor")
    _pool.submit(_log.info, "from an executor").result()
    thread = threading.Thread(target=_log.info, args=("from a thread",))
    thread.start()
    thread.join()
    timer = threading.Timer(0, _log.info, ("from a timer",))
    timer.start()
    timer.join()
    asyncio.get_running_loop().call_soon(_log.info, "from call_soon")
    await asyncio.sleep(0)
    return {"memory": _memory.getvalue().count("from one with handlers")}


async def _task():
    _log.info("from a task")


def children(**_):
    subprocess.run(["sh", "-c", "echo from a child; echo from its stderr >&2"], check=True)
    subprocess.run([sys.executable, "-c", "print('from a python child')"], check=True)
    os.system("echo from os.system")
    pid = os.fork()
    if pid == 0:
        _log.info("logged in a fork")
        print("printed in a fork", flush=True)
        os._exit(0)
    os.waitpid(pid, 0)


def reconfigures(**_):
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": True,
            "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
            "loggers": {"made.by.config": {"level": "DEBUG", "handlers": ["out"], "propagate": False}},
            "root": {"level": "ERROR", "handlers": ["out"]},
        }
    )
    _log.info("still here")
    logging.getLogger("made.by.config").debug("below the run's level")
    logging.getLogger("made.by.config").info("from a configured logger")
    logging.basicConfig(level=logging.CRITICAL, force=True)
    _log.info("after basicConfig")


def silences(**_):
    logging.disable(logging.CRITICAL)
    _log.info("disabled by its author")


def after_silence(**_):
    _log.info("not disabled any more")


def replaces_streams(**_):
    sys.stdout = sys.stderr = io.StringIO()
    print("into the author's own buffer")
    _log.info("logged all the same")


def closes_streams(**_):
    sys.stdout.close()
    sys.stderr.close()
    _log.info("logged all the same")
    print("printed after close")


def prints_again(**_):
    print("printed by the next step")


def through_a_queue(**_):
    lines = queue.SimpleQueue()
    logger = logging.getLogger("speaking.queued")
    handler = logging.handlers.QueueHandler(lines)
    logger.addHandler(handler)
    logger.info("by way of a queue")
    logger.removeHandler(handler)
    return lines.qsize()


async def many(*, count: int, mark: str = "", pause: bool = False, **_):
    for number in range(count):
        _log.info("%s%d", mark, number)
        if pause and number % 10 == 0:
            await asyncio.sleep(0)
    return count


def many_prints(*, count: int, mark: str = "", **_):
    for number in range(count):
        print(f"{mark}{number}")
    return count


async def mixes(*, mark: str, **_):
    """Speak from everywhere at once, while another does the same."""

    def speak(source):
        for number in range(50):
            _log.info("%s %s %d", mark, source, number)
            print(f"{mark} {source} printed {number}")
            time.sleep(0.0005)

    threads = [threading.Thread(target=speak, args=(f"thread{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    await asyncio.gather(asyncio.to_thread(speak, "to_thread"), *(_speak_async(mark, n) for n in range(3)))
    await asyncio.wrap_future(_pool.submit(speak, "pool"))
    for thread in threads:
        await asyncio.to_thread(thread.join)


async def _speak_async(mark, n):
    for number in range(50):
        _log.info("%s task%d %d", mark, n, number)
        print(f"{mark} task{n} printed {number}")
        await asyncio.sleep(0.0005)


def long_lines(**_):
    _log.info("%s", "é" * 100_000)
    print("p" * 200_000)
    os.write(1, b"d" * 150_000 + b"\n")
    _log.info("after")


def any_bytes(**_):
    os.write(1, bytes(range(256)).replace(b"\n", b"") + b"\n")
    print("".join(map(chr, range(32, 300))) + "\ud800")
    _log.info("null \x00, escape \x1b[31m, surrogate \udcff, line\nfeed, return\rhere")


async def records(*, ctx, **_):
    kept = []

    class Keeper(logging.Handler):
        def emit(self, record):
            kept.append([record.run_id == ctx.run_id, record.step, record.attempt])

    logger = logging.getLogger("speaking.kept")
    logger.addHandler(handler := Keeper())
    logger.info("one")
    logger.removeHandler(handler)
    return {"kept": kept}


async def levels(**_):
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(_log, level)("at %s", level)
    print("printed")
