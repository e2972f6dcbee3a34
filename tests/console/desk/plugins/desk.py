"""Callables of the tests of pages and forms."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Literal


async def extract(*, ctx, tenant: int, note: str = "", region: Literal["EU", "US"] = "EU", **_) -> dict:
    """Read the invoices of <b>a tenant</b>.

    :param tenant: number of the <b>tenant</b>
    :param region: where its data lives
    """
    return {"rows_affected": tenant, "tenant": tenant, "region": region, "note": note}


async def score(*, batch: int, since: date | None = None, dry_run: bool = False, fail: bool = False, **_) -> dict:
    """Score them; fails if it is told to.

    :param batch: rows of one statement
    """
    if fail:
        raise LookupError("no rows in <script>alert('error')</script>")
    return {"batch": batch, "since": str(since), "dry_run": dry_run}


async def walk(*, ctx, **_) -> None:
    """Walk on and on."""
    for step in range(100_000):
        ctx.progress(step, 100_000)
        await asyncio.sleep(0.1)


async def beat(**_) -> int:
    """Count one."""
    return 1
