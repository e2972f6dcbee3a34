"""The filters of lists of runs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypedDict


class RunFilters(TypedDict, total=False):
    """Filters of a list of runs; a key that is missing, or empty, keeps all.

    ``since`` and ``until`` are aware times: runs queued at or after, and before them. ``alice`` and ``bob`` as
    ``triggered_by`` both find ``alice (for bob)``. ``tag`` is one that the job has now. ``log_levels`` is a set of
    levels as in ``RunView.log_levels``, of which one must occur. ``with_steps`` fills steps and attempts, for at most
    50 runs a page. ``oldest_first`` reverses the order.
    """

    job_id: str
    states: Iterable[str]
    host: str
    since: datetime | None
    until: datetime | None
    trigger_kinds: Iterable[str]
    triggered_by: str
    tag: str
    reason_codes: Iterable[str]
    exclude_job_ids: Iterable[str]
    run_id_prefix: str
    replay_of: str
    parent_run_id: str
    run_ids: Iterable[str]
    log_levels: int
    with_steps: bool
    oldest_first: bool
