"""The rows of a table of runs, each as HTML. A page has fifty of them: from a template they were half of its time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from nomaflow.client.values import RunView
from nomaflow_api.log_levels import levels_from
from nomaflow_console.views.durations import ticking, took
from nomaflow_console.views.html_pieces import button, command, item, kept, row_menu, text
from nomaflow_console.views.needs_you import job_address
from nomaflow_console.views.run_filters import RunQuery, filter_name
from nomaflow_console.views.sentences import Sentence, amount, run_sentence, told, who
from nomaflow_console.views.states import state_badge
from nomaflow_console.views.times import when

if TYPE_CHECKING:
    from nomaflow_console.kernel.status import KernelStatus

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


@pass_context
def run_row(
    context: Context, row: RunRow, cancel_menu: Callable[..., str], *, selects: bool = True, names_job: bool = True
) -> Markup:
    """Return the row of a run.

    :param cancel_menu: the macro of that name, for a run that can be canceled
    :param selects: True for a box that selects it
    :param names_job: False where the page is that of its job
    """
    run = row.run
    run_id, end = text(run.run_id), text(run.run_id[-4:])
    href = f"/runs/{run_id}"
    kernel: KernelStatus = context["kernel"]
    may_run = kernel.may_perhaps("trigger", job_id=run.job_id, host=run.host)
    can_cancel = not run.terminal and run.cancel is None
    may_cancel = can_cancel and kernel.may_perhaps("cancel", job_id=run.job_id, host=run.host)
    act = _act(context, run, cancel_menu, may_run=may_run, may_cancel=may_cancel)
    more = _more(row, names_job=names_job, may_run=may_run)
    cells = [
        *_names(row, run_id, href, selects=selects, names_job=names_job),
        f'<td class="nowrap at">{_times(context, row)}</td>\n<td class="num span">{_span(row)}</td>',
        _rows_touched(row),
        _why(context, row),
        f'<td class="quiet nowrap k-hide">{_trigger(context, row)}</td>',
        f'<td class="k-hide"><a class="mono quiet-link soft nowrap" href="{href}" title="{run_id}">…{end}</a></td>',
        f'<td class="k-end"><div class="acts end">\n{act}\n{more}\n</div></td>',
    ]
    return Markup(f'<tr data-row id="row-{run_id}">\n' + "\n".join(cells) + "\n</tr>\n")  # noqa: S704  # escaped above


def _names(row: RunRow, run_id: str, href: str, *, selects: bool, names_job: bool) -> Iterator[str]:
    """Yield the cells that say which run it is, and its state."""
    run = row.run
    job_id = text(run.job_id)
    if selects:
        yield (
            f'<td class="k-lead pick"><input type="checkbox" name="run" value="{run_id}" form="bulk"'
            f' aria-label="Select {job_id} {text(run.run_id[-4:])}"></td>'
        )
    warns = ""
    if marks := log_marks(run):
        warns = (
            f' <span class="state state-warning" title="{marks} in its log"><span class="sign"'
            f' aria-hidden="true">▲</span><span class="visually-hidden">{marks} in its log</span></span>'
        )
    place = "k-lead" if names_job else "k-title"
    yield f'<td class="nowrap {place}"><a class="quiet-link" href="{href}">{state_badge(run)}</a>{warns}</td>'
    if names_job:
        preset = f' <span class="tag">{text(run.preset)}</span>' if run.preset else ""
        yield f'<td class="k-title"><a class="name" href="{text(job_address(run.job_id))}">{job_id}</a>{preset}</td>'


def _times(context: Context, row: RunRow) -> str:
    run, fold = row.run, row.run.fold
    if fold is None:
        return when(context, run.started_at or run.queued_at, timezone=row.timezone, seconds=True)
    last = f" – {when(context, fold.last, timezone=row.timezone)}" if fold.count > 1 else ""
    return f"{when(context, fold.first, timezone=row.timezone)}{last}"


def _span(row: RunRow) -> str:
    run = row.run
    if run.started_at and not run.finished_at:
        return ticking(run.started_at)
    if run.state == "QUEUED":
        return f'<span class="quiet">waits {ticking(run.queued_at)}</span>'
    if run.started_at and run.finished_at:
        return took((run.finished_at - run.started_at).total_seconds())
    return '<span class="quiet k-hide">–</span>'


def _rows_touched(row: RunRow) -> str:
    run = row.run
    so_far = ' <span class="quiet" title="so far">↑</span>'
    moves = run.state == "RUNNING" and run.rows_affected is not None
    return f'<td class="num k-hide">{amount(run.rows_affected)}{so_far if moves else ""}</td>'


def _why(context: Context, row: RunRow) -> str:
    said, fix = text(row.said.text), text(row.said.fix)
    if not said:
        return '<td class="why k-hide"><span class="quiet">–</span></td>'
    # A title cannot count: one with a time would soon be wrong.
    title = "" if row.said.until else f' title="{said} → {fix}"' if fix else f' title="{said}"'
    shown = f' <span class="fix">{fix}</span>' if fix else ""
    return f'<td class="why k-line"><div class="clamp"{title}>{told(context, row.said)}{shown}</div></td>'


def _trigger(context: Context, row: RunRow) -> str:
    trigger = row.run.trigger
    kind = text(trigger.kind)
    if trigger.kind == "cron":
        return f"{kind} {when(context, trigger.at, timezone=row.timezone)}" if trigger.at else kind
    if not trigger.by:
        return kind
    title = f"{text(trigger.by)}: only what {'they' if trigger.has_caller else 'it'} started"
    href = text(row.query.address(by=filter_name(trigger.by)))
    return f'{kind} <a class="quiet-link" href="{href}" title="{title}">{text(who(trigger.by))}</a>'


def _act(context: Context, run: RunView, cancel_menu: Callable[..., str], *, may_run: bool, may_cancel: bool) -> str:
    """Return the one thing that is mostly done with such a run."""
    if may_cancel:
        return cancel_menu(run.run_id, context["csrf"], context["here"], square=True)
    if not may_run:
        return ""
    if run.state == "MISSED" or (run.state == "SKIPPED" and not run.started_at):
        return button(f"Run {run.job_id}…", "play", href=_run_href(run), square=True, kind="plain", key="r")
    if run.terminal and run.state != "SKIPPED":
        name = f"Replay {run.job_id}…"
        return button(name, "rotate-ccw", href=f"/runs/{run.run_id}/replay", square=True, kind="plain", key="r")
    return ""


def _run_href(run: RunView) -> str:
    """Return the address of the form that runs the job, with the preset of a run."""
    return f"{job_address(run.job_id)}/run" + (f"?preset={quote(run.preset)}" if run.preset else "")


def _more(row: RunRow, *, names_job: bool, may_run: bool) -> Markup:
    run, query = row.run, row.query
    filters = {}
    if names_job:
        hidden = tuple(dict.fromkeys((*query.hidden, run.job_id)))
        filters = {"only_href": query.address(job=run.job_id), "not_href": query.address(hidden=hidden)}
    return _menu(run.run_id, f"/runs/{run.run_id}", _run_href(run) if may_run else "", **filters)


@kept
def _menu(run_id: str, href: str, run_href: str, *, only_href: str = "", not_href: str = "") -> Markup:
    """Return what else may be done with a run: the same each time that the page is shown."""
    items = [item("Log", "terminal", f"{href}#log")]
    if run_href:
        items.append(item("Run the job…", "play", run_href))
    if only_href:
        items += [item("Only this job", "filter", only_href), item("Not this job", "filter", not_href)]
    return row_menu("More for this run", "\n".join([*items, command(f"nomaflow show {run_id}")]))
