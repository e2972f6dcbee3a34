"""The question after Ctrl-C while a run is followed."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import sys

__all__ = ["Choice", "ask_what_to_do"]

_QUESTION = "the run is still running: [d]etach and leave it running, [c]ancel it, or [Enter] to keep watching? "


class Choice(enum.Enum):
    """The answers: what to do with the run."""

    DETACH = "detach"
    CANCEL = "cancel"
    WATCH = "watch"


async def ask_what_to_do(interrupts: asyncio.Queue[None]) -> Choice:
    """Ask on the terminal; a second Ctrl-C detaches, and so does the first if nobody can answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return Choice.DETACH
    print(f"\n{_QUESTION}", end="", file=sys.stderr, flush=True)
    answer = asyncio.create_task(_line())
    again = asyncio.create_task(interrupts.get())
    try:
        await asyncio.wait({answer, again}, return_when=asyncio.FIRST_COMPLETED)
        if again.done():
            print(file=sys.stderr)
            return Choice.DETACH
        return _understood(await answer)
    finally:
        for task in (answer, again):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _understood(line: str) -> Choice:
    if not line:  # end of file: nobody answers any more
        return Choice.DETACH
    first = line.strip().lower()[:1]
    return {"d": Choice.DETACH, "c": Choice.CANCEL}.get(first, Choice.WATCH)


async def _line() -> str:
    """Return the next line of standard input, without a thread that would outlive the question."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()
