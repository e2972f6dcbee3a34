"""Steps that succeed, fail, wait, talk a lot, print what is hostile, and do not stop."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nomaflow import RunContext

_log = logging.getLogger("reports.monthly")


def purge(**_: Any) -> dict[str, Any]:
    """Succeed, with rows."""
    _log.info("purging sessions older than 30 days")
    time.sleep(0.4)
    return {"rows_affected": 182_044, "apps": [10, 11, 12], "by": {"tenant": 10, "kind": "session"}}


def _rows_of(tenant: int) -> list[int]:
    raise LookupError(f"no rows in invoices_2026_10 of tenant {tenant}")


def score(*, tenant: int = 10, **_: Any) -> dict[str, Any]:
    """Fail, after a warning."""
    _log.info("scanning tenant %d", tenant)
    for batch in range(12):
        _log.debug("batch %d", batch)
        _log.info("batch %d of 12: %s", batch, json.dumps({"tenant": tenant, "rows": batch * 100, "tags": ["a", "b"]}))
        time.sleep(0.02)
    _log.warning("tenant %d is slow, see https://example.org/tenants/%d?why=slow", tenant, tenant)
    time.sleep(0.2)
    return {"rows_affected": len(_rows_of(tenant))}


def summary(**_: Any) -> dict[str, Any]:
    """Succeed; a run of month-end never gets here."""
    return {}


def big(*, lines: int = 1_000_000, needle_at: int = 987_654, go: str = "", **_: Any) -> dict[str, Any]:
    """Log very many lines, one of them an error, and one a warning in every 5,000.

    :param go: a file that the second line waits for
    """
    info, warning = _log.info, _log.warning
    for number in range(1, lines + 1):
        while number == 2 and go and not Path(go).exists():
            time.sleep(0.05)
        if number == needle_at:
            _log.error("needle in tenant %d: checksum differs", number)
        elif number % 5_000 == 0:
            warning("tenant %d is slow: %d ms", number, number % 977)
        else:
            info("scanning tenant %d of %d: rows=%d status=ok path=/var/lib/x/%d", number, lines, number * 7, number)
    return {"rows_affected": lines}


async def talk(
    *, lines: int = 200, per_second: float = 20.0, pause_at: int = 0, until: str = "", ctx: RunContext, **_: Any
) -> dict[str, Any]:
    """Log a numbered line now and then; at the line *pause_at* wait until there is a file *until*."""
    for number in range(1, lines + 1):
        while number == pause_at and not Path(until).exists():
            await asyncio.sleep(0.05)
        _log.log(logging.WARNING if number % 25 == 0 else logging.INFO, "line %d of %d", number, lines)
        ctx.progress(number, lines, f"line {number}")
        await asyncio.sleep(1 / per_second)
    return {"rows_affected": lines}


def flood(*, seconds: float = 10.0, go: str = "", **_: Any) -> dict[str, Any]:
    """Log as fast as it can.

    :param go: a file that the second line waits for
    """
    _log.info("flood line 1")
    while go and not Path(go).exists():
        time.sleep(0.05)
    until, number = time.monotonic() + seconds, 1
    while time.monotonic() < until:
        number += 1
        _log.info("flood line %d", number)
    return {"rows_affected": number}


def _there(left: int) -> None:
    _back(left - 1)


def _back(left: int) -> None:
    if left <= 0:
        raise LookupError("no rows in invoices_2026_10")
    _there(left)


def printed_tracebacks(*, depths: Sequence[int] = (2, 12, 2), **_: Any) -> dict[str, Any]:
    """Print tracebacks, so that each of their lines is a line of the log."""
    for depth in depths:
        print(f"trying with {depth}")
        try:
            _there(depth)
        except LookupError:
            traceback.print_exc(file=sys.stdout)
    return {"rows_affected": len(depths)}


def spin(**_: Any) -> dict[str, Any]:
    """Run a tight loop that nothing but a signal stops."""
    _log.info("spinning")
    while True:
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001  # what a stubborn author may write
            pass


def hostile(**_: Any) -> dict[str, Any]:
    """Print what should not be able to hurt a page."""
    _log.info("<script>window.hurt = 1</script><img src=x onerror='window.hurt = 2'>")
    _log.info("\x1b]8;;javascript:window.hurt=3\x1b\\click me\x1b]8;;\x1b\\ and javascript:window.hurt=4")
    _log.info("\x1b[1;31mred and bold\x1b[0m, \x1b[48;5;22mon green\x1b[0m, \x1b[2J\x1b[Hmoved")
    print("10 %\r20 %\r100 %", flush=True)
    _log.info("user \u202egnp.exe\u202c and \u2066isolated\u2069")
    _log.info("x" * 1_000_000)
    _log.info("nul \x00 and bell \x07")
    sys.stdout.buffer.write(b"caf\xe9 \xff\xfe\n")
    sys.stdout.flush()
    _log.info("lone \ud800 surrogate")
    _log.info(json.dumps({"html": "<b>bold</b>", "\u202ertl": "\u202eabc", "deep": {"a": [1, {"b": None}]}}))
    _log.info("\x1b]8;;http://evil.example/\x07here\x1b]8;;\x07")
    _log.info("see https://example.org/a?b=c&d=%3Cscript%3E, http://example.org/(x) and ftp://example.org")
    print("2020-01-01 00:00:00.000 ERROR root: forged", flush=True)
    _log.info("of one record\n2020-01-01T00:00:00.000000+00:00 ERROR hostile/1 root: forged")
    _log.error("several\nlines\nof\none\nrecord\nthat\nfold")
    return {"rows_affected": 1, "<i>": "<script>window.hurt = 5</script>", "rtl": "\u202eabc", "nul": "\x00"}
