"""Steps that run while everything around them is killed."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import subprocess
import time
from typing import Any

from torment.ledger import attempt, note

_log = logging.getLogger("torment")
_LINES = 500
_PAUSE_EVERY = 50


def line_of(key: str, number: int) -> str:
    """Return the text of one line that `talks` logs: known beforehand to who knows the key."""
    return f"{key} line {number} of {_LINES} {'#' * (number % 97)}"


async def quick(*, ledger: str, ctx: Any, seconds: float = 0.05, **_: Any) -> int:
    """Wait a little."""
    with attempt(ledger, ctx.attempt_key) as said:
        await asyncio.sleep(seconds)
        said["rows"] = 3
        return 3


def busy(*, ledger: str, ctx: Any, seconds: float = 0.05, **_: Any) -> dict[str, int]:
    """Block a worker for a while."""
    with attempt(ledger, ctx.attempt_key) as said:
        time.sleep(seconds)
        said["rows"] = 7
        return {"rows_affected": 7}


def talks(*, ledger: str, ctx: Any, seconds: float = 0.05, **_: Any) -> dict[str, Any]:
    """Log many lines, and say what their digest is."""
    with attempt(ledger, ctx.attempt_key) as said:
        digest = hashlib.sha256()
        for number in range(1, _LINES + 1):
            text = line_of(ctx.attempt_key, number)
            digest.update(text.encode() + b"\n")
            _log.info("%s", text)
            if number % _PAUSE_EVERY == 0:
                ctx.progress(number, _LINES)
                time.sleep(seconds / 5)
        said.update(rows=_LINES, digest=digest.hexdigest())
        return {"rows_affected": _LINES, "digest": digest.hexdigest()}


async def tells_secrets(*, ledger: str, ctx: Any, connectors: Any, **_: Any) -> dict[str, int]:
    """Give the password away wherever one can."""
    with attempt(ledger, ctx.attempt_key) as said:
        password = connectors.pools.engine("vault").url.password
        _log.warning("the password is %s", password)
        print("printed:", password)
        ctx.progress(1, 1, f"used {password}")
        said["rows"] = len(password)
        return {"rows_affected": len(password)}


def fails_once(*, ledger: str, ctx: Any, seconds: float = 0.05, **_: Any) -> int:
    """Raise at the first try."""
    with attempt(ledger, ctx.attempt_key) as said:
        time.sleep(seconds / 2)
        if ctx.attempt == 1:
            raise ValueError("the first try always fails")
        said["rows"] = ctx.attempt
        return ctx.attempt


def waits_for_a_child(*, ledger: str, ctx: Any, **_: Any) -> None:
    """Start a process and wait for it, for ever."""
    with attempt(ledger, ctx.attempt_key), subprocess.Popen(["sleep", "600"]) as child:
        note(ledger, ctx.attempt_key, "child", child=child.pid)
        child.wait()


async def waits(*, ledger: str, ctx: Any, **_: Any) -> None:
    """Wait for ever."""
    with attempt(ledger, ctx.attempt_key):
        await asyncio.sleep(600)
