"""Loads, scores and summarises invoices. Each step does nothing but take its time, in the way that real ones do."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from nomaflow import RunContext, StepFailed

_log = logging.getLogger(__name__)
_TABLES = ("invoices", "lines", "payments", "reminders", "credit_notes")


async def _takes(seconds: float) -> None:
    """Take a time, shortened by the pace of the showcase."""
    await asyncio.sleep(seconds * float(os.environ.get("SHOWCASE_PACE", "1")))


async def extract(
    *, ctx: RunContext, tables: int = 5, rows: int = 9000, seconds: float = 20.0, **_: Any
) -> dict[str, Any]:
    """Copy new rows of the shop's database into the staging schema.

    :param tables: how many tables to copy
    :param rows: how many rows to expect
    """
    for number in range(1, tables + 1):
        await _takes(seconds / tables)
        table = _TABLES[(number - 1) % len(_TABLES)]
        _log.info("%s: %d rows copied to staging.%s", table, rows // tables, table)
        ctx.progress(number * rows // tables, rows, f"{table} copied")
    return {"rows_affected": rows, "tables": tables, "watermark": "2026-11-26T05:58:12Z"}


async def score(
    *,
    ctx: RunContext,
    tenant: int,
    model: str = "risk-7",
    rows: int = 9000,
    seconds: float = 40.0,
    batch: int = 200,
    **_: Any,
) -> dict[str, Any]:
    """Compute a risk for every open invoice of a tenant, batch by batch.

    :param tenant: the tenant's number
    :param model: the name of the model
    :param batch: invoices in one batch
    """
    _log.info("scoring tenant %d with %s", tenant, model)
    if tenant == 10:
        _log.info("scanning invoices_2026_10 of tenant 10")
        await _takes(seconds / 3)
        _log.warning("partition invoices_2026_10 is empty; its neighbours have 41,877 and 39,204 rows")
        await _takes(seconds / 3)
        raise LookupError("no rows in invoices_2026_10")
    batches = max(rows // batch, 1)
    for number in range(1, batches + 1):
        await _takes(seconds / batches)
        _log.info("batch %d of %d · %d invoices scored", number, batches, number * batch)
        if number % 17 == 0:
            _log.warning("%d invoices without a due date got the tenant's default of 30 days", number)
        ctx.progress(number * batch, rows, f"batch {number} of {batches}")
    return {"rows_affected": rows, "model": model, "high_risk": rows // 97, "by_band": {"low": rows - 93, "high": 93}}


async def summarise(
    *, tenant: int, table: str = "monthly_summary", rows: int = 412, seconds: float = 6.0, **_: Any
) -> dict[str, Any]:
    """Write the month's summary of a tenant.

    :param table: the table that gets it
    """
    await _takes(seconds)
    _log.info("%s: %d rows for tenant %d", table, rows, tenant)
    return {"rows_affected": rows, "table": table}


async def purge(*, max_age_days: int = 30, rows: int = 182_044, seconds: float = 12.0, **_: Any) -> dict[str, Any]:
    """Remove sessions that nobody has used for a while.

    :param max_age_days: older ones go
    """
    for share in range(4):
        await _takes(seconds / 4)
        _log.info("deleted %d of %d sessions", rows * (share + 1) // 4, rows)
    return {"rows_affected": rows, "older_than_days": max_age_days}


def export(*, target: str, rows: int = 2_410, seconds: float = 8.0, **_: Any) -> dict[str, Any]:
    """Write a file for a partner, and check that it arrived.

    :param target: the partner's folder
    """
    import time

    time.sleep(seconds * float(os.environ.get("SHOWCASE_PACE", "1")))
    print(f"uploaded {rows} rows to {target}")
    return {"rows_affected": rows, "target": target, "sha256": "9b74c9897bac770ffc029102a200c5de"}


async def mail(*, to: str, subject: str = "Daily figures", seconds: float = 2.0, **_: Any) -> dict[str, Any]:
    """Send the figures of the day.

    :param to: one address, or a list's name
    """
    await _takes(seconds)
    _log.info("sent %r to %s", subject, to)
    return {"rows_affected": 0, "recipients": 14}


async def verify(*, sample: float = 0.01, seconds: float = 15.0, **_: Any) -> dict[str, Any]:
    """Restore a share of last night's backup, and compare it.

    :param sample: the share, from 0 to 1
    """
    await _takes(seconds)
    if sample > 1:
        raise StepFailed("sample is a share, from 0 to 1")
    _log.info("restored %.0f %% of 212 GiB, no difference", sample * 100)
    return {"rows_affected": 0, "restored_gib": 212 * sample}
