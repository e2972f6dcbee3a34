"""The rows of a table of runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from nomaflow.client.values import RunView
from nomaflow_api.log_levels import levels_from
from nomaflow_console.views.needs_you import job_address
from nomaflow_console.views.run_filters import RunQuery, filter_name
from nomaflow_console.views.sentences import Sentence, run_sentence

_LOUD, _ERROR = levels_from(logging.WARNING), levels_from(logging.ERROR)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """One run in a table.

    :param warns: ``warnings`` or ``errors`` where its log has some, and its state does not say so already
    :param run_href: the form that runs the job, with the preset of this run
    """

    run: RunView
    href: str
    job_href: str
    run_href: str
    only_href: str
    not_href: str
    by_href: str
    said: Sentence
    warns: str
    timezone: str
    can_cancel: bool
    can_replay: bool


def log_marks(run: RunView) -> str:
    """Return ``errors`` or ``warnings`` if a log has some; empty if it has none, or the state says so already.

    The log of each canceled run has warnings: its host writes them as it stops the code.
    """
    levels = run.log_levels & (_ERROR if run.state == "CANCELED" else _LOUD)
    if run.state == "FAILED" or not levels:
        return ""
    return "errors" if levels & _ERROR else "warnings"


def run_rows(runs: Sequence[RunView], zones: Mapping[str, str], query: RunQuery) -> list[RunRow]:
    """Return the rows of runs.

    :param zones: the zones of jobs, for those of their times
    :param query: the filters of the page, which the rows' links narrow
    """
    return [_row(run, zones.get(run.job_id, ""), query) for run in runs]


def _row(run: RunView, timezone: str, query: RunQuery) -> RunRow:
    job_href = job_address(run.job_id)
    preset = f"?preset={quote(run.preset)}" if run.preset else ""
    return RunRow(
        run=run,
        href=f"/runs/{run.run_id}",
        job_href=job_href,
        run_href=f"{job_href}/run{preset}",
        only_href=query.address(job=run.job_id),
        not_href=query.address(hidden=tuple(dict.fromkeys((*query.hidden, run.job_id)))),
        by_href=query.address(by=filter_name(run.trigger.by)),
        said=run_sentence(run),
        warns=log_marks(run),
        timezone=timezone,
        can_cancel=not run.terminal and run.cancel is None,
        can_replay=run.terminal and run.state not in ("SKIPPED", "MISSED"),
    )
