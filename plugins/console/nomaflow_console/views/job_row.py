"""One job in the table of jobs as HTML. A page has fifty of them: from a template they were half of its time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from nomaflow.client.values import RunView
from nomaflow_console.views.durations import ticking, took
from nomaflow_console.views.html_pieces import button, command, icon, item, kept, row_menu, text
from nomaflow_console.views.job_rows import JobRow
from nomaflow_console.views.sentences import amount, told, who
from nomaflow_console.views.sparkline import sparkline
from nomaflow_console.views.states import state_badge
from nomaflow_console.views.times import Zone, when
from nomaflow_project.jobs.text_forms import is_job_id

if TYPE_CHECKING:
    from nomaflow_console.kernel.status import KernelStatus

_NOTHING = '<span class="quiet">–</span>'


@pass_context
def job_row(context: Context, row: JobRow) -> Markup:
    """Return the row of a job."""
    job_id = text(row.job.job_id)
    may_run = _may(context, "trigger", row)
    more = _more(context, row, may_run=may_run)
    cells = [
        f'<td class="k-lead">{_sign(row)}</td>',
        f'<td class="k-title"><a class="name" href="{text(row.href)}">{job_id}</a>{_about(row)}</td>',
        f'<td class="last-run">{_last_run(context, row)}</td>',
        f'<td class="num k-hide">{amount(row.last.rows_affected) if row.last else "–"}</td>',
        f'<td class="spark-cell">{_bars(context, row)}</td>',
        f'<td class="{"next" if row.next else "k-hide"}">{_next(context, row)}</td>',
        _why(context, row),
        f'<td class="k-end"><div class="acts end">\n{_act(row, may_run=may_run)}\n{more}\n</div></td>',
    ]
    return Markup(f'<tr data-row id="job-{job_id}">\n' + "\n".join(cells) + "\n</tr>\n")  # noqa: S704  # escaped above


def _sign(row: JobRow) -> str:
    word = text(row.sign.word)
    return (
        f'<span class="state state-{row.sign.css}" title="{word}"><span class="sign"'
        f' aria-hidden="true">{row.sign.sign}</span><span class="visually-hidden">{word}</span></span>'
    )


def _about(row: JobRow) -> str:
    about = text(row.job.description)
    return f'<div class="about" title="{about}">{about}</div>' if about else ""


def _last_run(context: Context, row: JobRow) -> str:
    run = row.last
    if run is None:
        return '<span class="quiet">never run</span>'
    at = when(context, run.finished_at or run.started_at or run.queued_at, timezone=row.job.timezone)
    span = ""
    if run.started_at and run.finished_at:
        span = f' <span class="nowrap">· {took((run.finished_at - run.started_at).total_seconds())}</span>'
    elif run.started_at:
        span = f' <span class="nowrap">· {ticking(run.started_at)}</span>'
    badge = f'<a class="quiet-link" href="/runs/{text(run.run_id)}">{state_badge(run)}</a>'
    return f'{badge} <span class="sub">{at}{span}</span>'


def _bars(context: Context, row: JobRow) -> str:
    zone: Zone = context["zone"]
    info, _ = zone.for_job(row.job.timezone)
    return sparkline(row.recent, now=context["now"], zone=info) if row.last and row.recent else ""


def _next(context: Context, row: JobRow) -> str:
    fire = row.next
    if fire is None:
        return '<span class="quiet">by hand</span>' if not row.job.schedule and row.job.valid else _NOTHING
    preset = f' <span class="tag">{text(fire.preset)}</span>' if fire.preset else ""
    return f'<span class="k-word">next </span>{when(context, fire.at, timezone=row.job.timezone)}{preset}'


def _why(context: Context, row: JobRow) -> str:
    said = text(row.now.text)
    shown = _NOTHING
    if (pause := row.job.pause) is not None:
        until = f" until {when(context, pause.until)}" if pause.until else ""
        why = f": “{text(pause.why)}”" if pause.why else ""
        sign = '<span class="state state-paused"><span class="sign" aria-hidden="true">‖</span> paused</span>'
        shown = f"{sign} by {text(who(pause.by) or 'somebody')}{until}{why}"
    elif row.open_run is not None:
        shown = (
            f'<a class="quiet-link" href="/runs/{text(row.open_run.run_id)}">{state_badge(row.open_run)}</a>'
            f"{':' if row.open_run.reason is not None else ''} {told(context, row.now)}{_others(row)}"
        )
    elif said:
        shown = f'{said} <span class="fix">{text(row.now.fix)}</span>' if row.now.fix else said
    place = "k-hide" if shown is _NOTHING else "k-line"
    title = "" if row.now.until else f' title="{said}"'  # a title cannot count
    return f'<td class="why {place}"><div class="clamp"{title}>{shown}</div></td>'


def _others(row: JobRow) -> str:
    if row.open_count < 2:
        return ""
    href = f"/runs?job={quote(row.job.job_id)}&amp;state=RUNNING&amp;state=QUEUED&amp;since=ever"
    return f' <a href="{href}">+{row.open_count - 1}</a>'


def _may(context: Context, verb: str, row: JobRow) -> bool:
    kernel: KernelStatus = context["kernel"]
    return kernel.may_job(verb, row.job)


def _act(row: JobRow, *, may_run: bool) -> str:
    """Return the one thing that is mostly done with such a job."""
    if row.sign.css == "disabled":
        return button("Show fix", href=f"{row.href}#problems")
    if not may_run:
        return ""
    return button(f"Run {row.job.job_id}…", "play", href=f"{row.href}/run", square=True, kind="plain", key="r")


def _more(context: Context, row: JobRow, *, may_run: bool) -> Markup:
    if not is_job_id(row.job.job_id):
        return Markup("")  # the kernel knows it by no id
    last = row.last
    last_run = last.run_id if last is not None else ""
    replays = may_run and last is not None and last.terminal and last.started_at is not None
    pauses = _pauses(context, row) if _may(context, "operate", row) else ""
    cancels = _cancel_href(context, row.open_run) if row.open_run is not None else ""
    return _menu(row.job.job_id, last_run, pauses, cancels=cancels, replays=replays, runs=may_run)


def _cancel_href(context: Context, run: RunView) -> str:
    """Return the address of the question whether to cancel a run; empty where it is asked already, or may not be."""
    kernel: KernelStatus = context["kernel"]
    if run.cancel is not None or not kernel.may_perhaps("cancel", job_id=run.job_id, host=run.host):
        return ""
    return f"/runs/{run.run_id}/cancel?next={quote(context['here'], safe='/')}"


def _pauses(context: Context, row: JobRow) -> str:
    if row.job.pause is None or not row.job.pause.job_id:
        return item("Pause…", "pause", f"{row.href}/pause")
    return (
        f'<form method="post" action="{text(row.href)}/resume">'
        f'<input type="hidden" name="csrf" value="{text(context["csrf"])}">'
        f'<input type="hidden" name="next" value="{text(context["here"])}">'
        f'<button class="item">{icon("play")}Resume</button></form>'
    )


@kept
def _menu(job_id: str, last_run: str, pauses: str, *, cancels: str, replays: bool, runs: bool) -> Markup:
    """Return what else may be done with a job: the same each time that the page is shown.

    :param last_run: the id of its last run; empty for none
    :param pauses: HTML
    :param cancels: the address that asks whether to cancel its open run; empty for none
    :param runs: True for the command that runs it
    """
    items = [item("Its runs", "list-checks", f"/runs?job={quote(job_id)}&since=ever")]
    if last_run:
        items.append(item("Log of the last run", "terminal", f"/runs/{last_run}#log"))
    if replays:
        items.append(item("Replay the last run…", "rotate-ccw", f"/runs/{last_run}/replay"))
    if cancels:
        items.append(item("Cancel its run…", "x", cancels))
    if pauses:
        items.append(Markup(pauses))  # noqa: S704  # escaped above
    if runs:
        items.append(command(f"nomaflow run {job_id}"))
    return row_menu(f"More for {job_id}", "\n".join(items))
