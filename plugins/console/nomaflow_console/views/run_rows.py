"""The rows of a table of runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nomaflow.client.values import RunView
from nomaflow_api.log_levels import levels_from
from nomaflow_console.views.run_filters import RunQuery
from nomaflow_console.views.sentences import Sentence, run_sentence

_LOUD, _ERROR = levels_from(logging.WARNING), levels_from(logging.ERROR)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """One run in a table.

    :param timezone: of its job
    :param query: the filters of the page, which the links of the row narrow
    """

    run: RunView
    said: Sentence
    timezone: str
    query: RunQuery


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
    """
    return [RunRow(run=run, said=run_sentence(run), timezone=zones.get(run.job_id, ""), query=query) for run in runs]
