"""One coming fire in the list of a day as HTML. A page has hundreds of them: from a template one costs a third more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from nomaflow.client.values import ListedFireView
from nomaflow_console.views.durations import took
from nomaflow_console.views.html_pieces import button, text
from nomaflow_console.views.times import city, when

if TYPE_CHECKING:
    from nomaflow_console.kernel.status import KernelStatus

_CLOCKS = {
    "gap": ("skipped hour", "clocks skip this time that night: it fires when they go on"),
    "repeated": ("repeated hour", "clocks show this time twice that night"),
}


@pass_context
def fire_row(context: Context, fire: ListedFireView) -> Markup:
    """Return the row of a fire."""
    href = f"/jobs/{quote(fire.job_id)}"
    preset = f' <span class="tag">{text(fire.preset)}</span>' if fire.preset else ""
    paused = ' <span class="soft">‖ paused: will not start</span>' if fire.paused else ""
    kernel: KernelStatus = context["kernel"]
    run = ""
    if kernel.may_perhaps("trigger", job_id=fire.job_id):
        run = button(f"Run {fire.job_id} now", "play", href=f"{href}/run", kind="plain", square=True, key="r")
    known = " k-hide" if fire.expected_seconds is None else ""
    cells = [
        f'<td class="nowrap k-lead">{when(context, fire.at, timezone=fire.timezone)}</td>',
        f'<td class="nowrap">{_own_clock(fire)}</td>',
        f'<td class="k-title"><a class="name" href="{href}">{text(fire.job_id)}</a>{preset}{paused}</td>',
        f'<td class="num{known}"><span class="k-word">usually </span>{took(fire.expected_seconds)}</td>',
        f'<td class="k-line">{_together_with(fire)}</td>',
        f'<td class="acts k-end">{run}</td>',
    ]
    css = ' class="is-paused"' if fire.paused else ""
    name = f' data-row id="fire-{quote(fire.job_id)}-{quote(fire.preset)}-{text(fire.local)}"'
    return Markup(f"<tr{css}{name}>" + "\n".join(cells) + "</tr>\n")  # noqa: S704  # escaped above


def _own_clock(fire: ListedFireView) -> str:
    """Return the time on the clock of the fire's zone, and what that clock does just then."""
    clock = f'<time datetime="{text(fire.local)}">{text(fire.local[11:16])}</time>'
    shown = f'{clock} <span class="quiet">{text(city(fire.timezone))}</span>'
    if not fire.daylight_saving:
        return shown
    words, title = _CLOCKS.get(fire.daylight_saving, (fire.daylight_saving, ""))
    return f'{shown} <span class="badge warning" title="{text(title)}">◷ {text(words)}</span>'


def _together_with(fire: ListedFireView) -> str:
    others = runs_into(fire.collides_with)
    return f'{others} <span class="quiet">{fire.at_once} in this minute</span>' if fire.at_once > 1 else others


def runs_into(jobs: Iterable[str]) -> Markup:
    """Return the jobs that a fire or a schedule collides with; nothing if there are none."""
    others = ", ".join(f'<a href="/jobs/{quote(job)}">{text(job)}</a>' for job in jobs)
    return Markup(f'<span class="warn">▲ runs into</span> {others}' if others else "")  # noqa: S704  # escaped above
