"""Async steps, each deaf in its own way."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stopping.ledgers import note
from stopping.sync_steps import beats, swallows_everything

_pool = ThreadPoolExecutor(4)
_kept = []


async def awaits(*, ledger, **_):
    """Wait, as most do."""
    note(ledger, "start")
    await asyncio.sleep(600)


async def catches_and_goes_on(*, ledger, **_):
    """Catch CancelledError and continue, with signs of life."""
    note(ledger, "start")
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                note(ledger, "beat")
                await asyncio.sleep(0.02)


async def blocks_the_loop(*, ledger, **_):
    """Sleep without awaiting."""
    note(ledger, "start")
    time.sleep(600)


async def tight_loop(*, ledger, **_):
    """Never give the loop back."""
    note(ledger, "start")
    while True:
        pass


async def deaf_worker(*, ledger, **_):
    """Make the worker itself deaf to SIGTERM, and swallow everything."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    swallows_everything(ledger=ledger)


async def in_to_thread(*, ledger, **_):
    """Await a thread that does not end."""
    await asyncio.to_thread(beats, ledger=ledger)


async def in_executor(*, ledger, **_):
    """Await work in an executor that does not end."""
    await asyncio.get_running_loop().run_in_executor(_pool, lambda: beats(ledger=ledger))


async def in_own_thread(*, ledger, **_):
    """Wait beside an own thread that does not end."""
    threading.Thread(target=beats, kwargs={"ledger": ledger}).start()
    await asyncio.sleep(600)


async def in_deaf_task(*, ledger, **_):
    """Wait beside a task that will not be cancelled."""
    _kept.append(asyncio.create_task(catches_and_goes_on(ledger=ledger)))
    await asyncio.sleep(600)


async def leaves_a_thread(*, ledger, **_):
    """Return while an own thread keeps running."""
    threading.Thread(target=beats, kwargs={"ledger": ledger}).start()
    await _begun(ledger)
    return 7


async def leaves_work(*, ledger, **_):
    """Return while work in an executor keeps running."""
    _pool.submit(beats, ledger=ledger)
    await _begun(ledger)
    return 7


async def leaves_a_task(*, ledger, **_):
    """Return while a task keeps running that refuses to be cancelled."""
    _kept.append(asyncio.create_task(catches_and_goes_on(ledger=ledger)))
    await _begun(ledger)
    return 7


async def returns_when_told(*, ledger, until, **_):
    """Return as soon as a file is there."""
    note(ledger, "start")
    while not Path(until).exists():
        await asyncio.sleep(0.005)
    note(ledger, "end")
    return 11


async def _begun(ledger):
    while not Path(ledger).exists() or '"beat"' not in Path(ledger).read_text():
        await asyncio.sleep(0.01)
