"""Figures of a job's newest runs, told of the runs that they are about."""

from __future__ import annotations

import statistics

from msgspec.structs import replace

from nomaflow.client.values import JobStatsView, RecentRunView
from nomaflow_api.percentiles import percentile_95


def ended_ok(stats: JobStatsView) -> str:
    """Return how many of a job's newest runs were ok, of those that took place and are over; empty if there is none."""
    over = [run for run in stats.recent if _took_place(run)]
    if not over:
        return ""
    good = sum(run.state == "SUCCEEDED" for run in over)
    if len(over) == 1:
        return f"the last run that took place was {'ok' if good else 'not ok'}"
    return f"{good / len(over) * 100:.0f} % of the last {len(over)} runs that took place were ok"


def _took_place(run: RecentRunView) -> bool:
    return run.state in ("SUCCEEDED", "FAILED") or (run.state == "CANCELED" and run.started_at is not None)


def without_run(stats: JobStatsView | None, run_id: str) -> JobStatsView | None:
    """Return figures that leave a run out, so that it is compared with the others only: none if it is the only one."""
    if stats is None:
        return None
    others = tuple(run for run in stats.recent if run.run_id != run_id)
    seconds = [run.seconds for run in others if run.state == "SUCCEEDED" and run.seconds is not None]
    return replace(
        stats,
        recent=others,
        median_seconds=statistics.median(seconds) if seconds else None,
        p95_seconds=percentile_95(seconds),
    )
