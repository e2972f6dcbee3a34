"""The parts of pages: tables, facts, and states, times, reasons and problems in one uniform form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import Generic, TypeVar

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Column as GridColumn
from rich.table import Table
from rich.text import Text

from nomaflow.client.values import AttemptView, PauseView, ProblemView, RefusedLoadView, RunView
from nomaflow_cli.formatting import age, clock_time, moment, sign
from nomaflow_project.reading.problems import Problem
from nomaflow_telemetry.visible_text import printable

T = TypeVar("T")
_GAP = 2
_LEGIBLE = 20
"""The width in characters that a column which shrinks has, if its longest cell has as many."""

_FOLDED = 8
"""The width that a column which folds keeps, likewise; from there on, those that shrink give more."""


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column of a table.

    :param cell: the cell of a row
    :param right: True for a column of numbers
    :param loose: True for a column that shrinks on a narrow terminal; the others keep their width
    :param folds: True for a column of names, which go on in the next line where no other column can make room
    :param from_width: the width of a terminal in characters below which the column is left out; where a column that
        shrinks has no room, the one with the largest goes first, and those with 0 stay
    """

    header: str
    cell: Callable[[T], RenderableType]
    _: KW_ONLY
    right: bool = False
    loose: bool = False
    folds: bool = False
    from_width: int = 0
    min_width: int | None = None


@dataclass(frozen=True, slots=True)
class Rows(Generic[T]):
    """A table in the house style: quiet headers, one rule, no frame; on a narrow terminal it has fewer columns."""

    columns: Sequence[Column[T]]
    rows: Sequence[T]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shape = Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            header_style="dim",
            border_style="dim",
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        shown = self._shown(console, options)
        for column, width in shown.items():
            shape.add_column(
                column.header,
                justify="right" if column.right else "left",
                no_wrap=not (column.loose or width),
                overflow="fold" if width else "ellipsis",
                min_width=width or column.min_width,
                width=width or None,
            )
        for row in self.rows:
            shape.add_row(*(column.cell(row) for column in shown))
        yield shape

    def _shown(self, console: Console, options: ConsoleOptions) -> dict[Column[T], int]:
        """Return the columns that fit, so that those that shrink stay legible: the least important go first.

        Each comes with the width to which it folds, 0 if it does not: what still lacks is taken from those that can.
        """
        shown = [column for column in self.columns if options.max_width >= column.from_width]
        widths = {column: self._width(column, console, options) for column in shown}
        while True:
            needed = sum(min(widths[each], _LEGIBLE) if each.loose else widths[each] for each in shown)
            least = max(shown, key=lambda each: each.from_width)
            lacks = max(0, needed + _GAP * (len(shown) - 1) - options.max_width)
            if not (lacks and least.from_width):
                folded = {each: max(_FOLDED, widths[each] - lacks) if each.folds else 0 for each in shown}
                return {each: width if width < widths[each] else 0 for each, width in folded.items()}
            shown.remove(least)

    def _width(self, column: Column[T], console: Console, options: ConsoleOptions) -> int:
        cells = (Measurement.get(console, options, column.cell(row)).maximum for row in self.rows)
        return max(column.min_width or 0, len(column.header), *cells, 0)


def facts(*rows: tuple[str, str | Text]) -> Table:
    """Return a grid of quiet names and their values; rows with an empty value are left out.

    :param rows: texts are made safe for a terminal here
    """
    shape = Table.grid(GridColumn(style="dim", no_wrap=True), GridColumn(overflow="fold"), padding=(0, 2))
    for name, value in rows:
        if value:
            shape.add_row(name, Text(printable(value)) if isinstance(value, str) else value)
    return shape


def state(name: str) -> Text:
    """Return a state with its sign and colour."""
    glyph, style = sign(name)
    return Text(f"{glyph} {printable(name)}", style=style, no_wrap=True)


def run_state(run: RunView) -> Text:
    """Return a run's state, with a note if it is being cancelled."""
    if run.cancel is not None and not run.terminal:
        return Text("⊘ stopping", style="yellow", no_wrap=True)
    return state(run.state)


def when(instant: datetime | None) -> Text:
    """Return a local time with its age."""
    if instant is None:
        return Text("–", style="dim")
    return Text.assemble(moment(instant), (f"  {age(instant)}", "dim"), no_wrap=True)


def why(attempt: AttemptView) -> str:
    """Return the reason for the state of an attempt: the error if there is one, else the reason's sentence."""
    return attempt.error or (attempt.reason.message if attempt.reason else "")


def pause_text(pause: PauseView) -> str:
    """Return a pause in one sentence."""
    until = f" until {moment(pause.until)}" if pause.until else ""
    by = f" by {printable(pause.by)}" if pause.by else ""
    reason = f": {printable(pause.why)}" if pause.why else ""
    return f"paused{by}{until}{reason}"


def refused_text(refused: RefusedLoadView) -> str:
    """Return a refused load in one line."""
    at = f" of {clock_time(refused.at)}" if refused.at else ""
    who = "the kernel " if refused.by_kernel else ""
    return f"{who}refused the load{at}: {printable(refused.summary)}"


def problem_lines(problem: ProblemView | Problem, *, job_id: str = "") -> Text:
    """Return a problem with its place and the way out.

    :param job_id: the job whose part of the file the place is in
    """
    signed = ("✘ ", "red") if problem.severity == "error" else ("! ", "yellow")
    text = Text.assemble(signed, printable(problem.message))
    path = f"{job_id}: {problem.path}" if job_id and problem.path else problem.path
    place = " › ".join(printable(part) for part in (problem.place, path) if part)
    if place:
        text.append(f"\n  in {place}", style="dim")
    if problem.fix:
        text.append(f"\n  → {printable(problem.fix)}")
    return text
