"""Cells of tables: states, times and reasons in one uniform form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from nomaflow.client.values import PauseView, ProblemView, ReasonView, RefusedLoadView, RunView
from nomaflow_cli.wording import GLYPHS, STYLES, age, clock_time, elapsed, moment, printable

__all__ = [
    "FittingTable",
    "grid",
    "pause_text",
    "problem_lines",
    "reason_text",
    "refused_text",
    "run_state",
    "since",
    "state",
    "table",
    "took",
    "when",
]

_RUN_ID_WIDTH = 30


def table(*headers: str, right: tuple[str, ...] = (), loose: tuple[str, ...] = ()) -> Table:
    """Return an empty table in the house style: quiet headers, one rule, no frame.

    :param right: columns of numbers
    :param loose: columns that shrink on a narrow terminal; the others keep their width, a run's id always
    """
    shape = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        header_style="dim",
        border_style="dim",
        pad_edge=False,
        padding=(0, 1, 0, 0),
        expand=False,
    )
    for header in headers:
        shape.add_column(
            header,
            justify="right" if header in right else "left",
            no_wrap=header not in loose,
            overflow="ellipsis",
            min_width=_RUN_ID_WIDTH if header == "run" else None,
        )
    return shape


@dataclass(frozen=True, kw_only=True, slots=True)
class FittingTable:
    """A table in the house style that leaves out columns on a narrow terminal, the least needed first.

    :param rows: a cell for each header
    :param spare: header → the width in characters below which its column is left out
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[RenderableType, ...], ...]
    spare: Mapping[str, int]
    right: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = [place for place, one in enumerate(self.headers) if options.max_width >= self.spare.get(one, 0)]
        shape = table(*(self.headers[place] for place in shown), right=self.right, loose=self.loose)
        for row in self.rows:
            shape.add_row(*(row[place] for place in shown))
        yield shape


def grid() -> Table:
    """Return a grid of two columns: a quiet name and a value."""
    shape = Table.grid(padding=(0, 2))
    shape.add_column(style="dim", no_wrap=True)
    shape.add_column(overflow="fold")
    return shape


def state(name: str, *, with_name: bool = True) -> Text:
    """Return a state with its sign and colour."""
    glyph = GLYPHS.get(name, "●")
    return Text(f"{glyph} {name}" if with_name else glyph, style=STYLES.get(name, ""), no_wrap=True)


def run_state(run: RunView) -> Text:
    """Return a run's state, with a note if it is being cancelled."""
    if run.cancel is not None and not run.terminal:
        return Text(f"{GLYPHS['CANCELED']} stopping", style="yellow", no_wrap=True)
    return state(run.state)


def when(instant: datetime | None) -> Text:
    """Return a local time with its age."""
    if instant is None:
        return Text("–", style="dim")
    return Text.assemble(moment(instant), (f"  {age(instant)}", "dim"), no_wrap=True)


def since(run: RunView) -> Text:
    """Return the trigger of a run and how long ago it fired, or the day if that is long ago."""
    at = run.started_at or run.queued_at
    old = at is not None and (datetime.now(UTC) - at).days >= 1
    return Text.assemble(f"{run.trigger.kind} ", (moment(at) if old else age(at), "dim"))


def took(run: RunView) -> str:
    """Return the duration of a run, so far if it is not over."""
    return elapsed(run.started_at, run.finished_at)


def reason_text(reason: ReasonView | None, error: str = "") -> Text:
    """Return the reason for a state: the error if there is one, else the reason's sentence."""
    text = printable(error.splitlines()[0] if error else reason.message or reason.code if reason else "")
    return Text(text, overflow="ellipsis", no_wrap=True)


def pause_text(pause: PauseView) -> str:
    """Return a pause in one sentence."""
    until = f" until {moment(pause.until)}" if pause.until else ""
    by = f" by {printable(pause.by)}" if pause.by else ""
    why = f": {printable(pause.why)}" if pause.why else ""
    return f"paused{by}{until}{why}"


def refused_text(refused: RefusedLoadView) -> str:
    """Return a refused load in one line."""
    at = f" of {clock_time(refused.at)}" if refused.at else ""
    return f"refused the load{at}: {printable(refused.summary)}"


def problem_lines(problem: ProblemView) -> Text:
    """Return a problem with its place and the way out."""
    error = problem.severity == "error"
    text = Text.assemble(("✘ " if error else "! ", "red" if error else "yellow"), printable(problem.message))
    place = " › ".join(printable(part) for part in (problem.place, problem.path) if part)
    if place:
        text.append(f"\n  in {place}", style="dim")
    if problem.fix:
        text.append(f"\n  → {printable(problem.fix)}")
    return text
