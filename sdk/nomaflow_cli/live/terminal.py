"""The live view on a terminal: steps below, log lines scrolling above them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from nomaflow.client.values import AttemptView, LogLine, ProgressView, RunView, StepView
from nomaflow_cli.live.screens import JsonScreen, PlainScreen, Screen
from nomaflow_cli.output import console as make_console
from nomaflow_cli.output import is_terminal
from nomaflow_cli.pages.cells import why
from nomaflow_cli.pages.log_lines import LogPrinter
from nomaflow_cli.pages.runs import summary
from nomaflow_cli.wording import GLYPHS, STYLES, amount, count, elapsed, extras_text, first_line, printable

__all__ = ["TerminalScreen", "choose_screen"]

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_BAR_WIDTH = 24


def choose_screen(*, as_json: bool, console: Console | None = None) -> Screen:
    """Return the screen that suits standard output.

    :param console: shared with other code that prints while the screen is open
    """
    if as_json:
        return JsonScreen()
    console = console or make_console()
    return TerminalScreen(console=console) if is_terminal() else PlainScreen(console=console)


class TerminalScreen(Screen):
    """Shows the run's steps at the bottom of the terminal and its log lines above them.

    :param clock: monotonic seconds, for the spinner
    """

    def __init__(self, *, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._logs = LogPrinter(console=console)
        self._live: Live | None = None
        self._run: RunView | None = None
        self._away = False

    def open(self) -> None:
        """Start to draw."""
        self._live = Live(
            self._draw(), console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop"
        )
        self._live.start()

    def close(self) -> None:
        """Remove the drawing; the log lines stay."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def update(self, run: RunView) -> None:
        """Show the current state of the run."""
        first, self._run = self._run is None, run
        if first:
            by = f" by {printable(run.trigger.by)}" if run.trigger.by else ""
            title = Text.assemble((printable(run.job_id), "bold"), (f"  {run.run_id}  {run.trigger.kind}{by}", "dim"))
            self._console.print(title)
        self.tick()

    def log(self, lines: Sequence[LogLine]) -> None:
        """Print the lines above the steps."""
        self._logs.print(lines)

    def connected(self, up: bool) -> None:  # noqa: FBT001  # as in the base
        """Show that the kernel is away or back."""
        self._away = not up
        if up:
            self._console.print(Text("  the kernel is back; nothing was lost meanwhile", style="dim"))
        self.tick()

    def tick(self) -> None:
        """Draw again."""
        if self._live is not None:
            self._live.update(self._draw(), refresh=True)

    def finish(self, run: RunView) -> None:
        """Replace the drawing with the summary."""
        self.close()
        self._console.print(Rule(style="dim"))
        self._console.print(summary(run))

    def _draw(self) -> RenderableType:
        if self._run is None:
            return Text("the kernel is away; waiting for it to come back" if self._away else "", style="yellow")
        shape = Table.grid(padding=(0, 2, 0, 0))
        shape.add_column(no_wrap=True)
        shape.add_column(no_wrap=True, overflow="ellipsis", max_width=32)
        shape.add_column(justify="right", no_wrap=True)
        shape.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for step in self._run.steps:
            shape.add_row(*self._row(step))
        return Group(Rule(style="dim"), shape, self._foot(self._run))

    def _row(self, step: StepView) -> tuple[RenderableType, ...]:
        last = step.last
        style = STYLES.get(last.state, "")
        glyph = self._spinner() if last.state in ("RUNNING", "DISPATCHED") else GLYPHS.get(last.state, "·")
        tries = (f" try {last.attempt}", "yellow") if last.attempt > 1 else ("", "")
        name = Text.assemble((printable(step.name), "bold" if last.state == "RUNNING" else ""), tries)
        return (
            Text(glyph, style=style),
            name,
            Text(elapsed(last.started_at, last.finished_at), style="dim"),
            _detail(last),
        )

    def _foot(self, run: RunView) -> Text:
        turn = self._spinner()
        if self._away:
            return Text(f"{turn} the kernel is away; the steps go on, waiting for it to come back", style="yellow")
        if run.cancel is not None and not run.terminal:
            return Text(f"{turn} stopping, as asked by {printable(run.cancel.by or 'someone')}", style="yellow")
        if run.state == "QUEUED":
            why = printable(run.reason.message) if run.reason and run.reason.message else "waiting to start"
            return Text(f"{turn} {why}", style="dim")
        lines = count(run.log_lines, "log line") if run.log_lines else ""
        rows = count(run.rows_affected, "row") if run.rows_affected is not None else ""
        facts = [elapsed(run.started_at, run.finished_at), lines, rows, "Ctrl-C: detach or cancel"]
        return Text("  " + " · ".join(fact for fact in facts if fact), style="dim")

    def _spinner(self) -> str:
        return _SPINNER[int(self._clock() * 10) % len(_SPINNER)]


def _detail(attempt: AttemptView) -> RenderableType:
    """Return the most useful detail about a step now: its progress, its rows, or the reason for its state."""
    if attempt.state == "RUNNING":
        return _progress(attempt.progress) if attempt.progress is not None else Text("")
    if attempt.state == "SUCCEEDED":
        facts = [count(attempt.rows_affected, "row") if attempt.rows_affected is not None else ""]
        facts.append(extras_text(attempt.extras))
        return Text(" · ".join(fact for fact in facts if fact), style="dim")
    return Text(first_line(why(attempt)), style=STYLES.get(attempt.state, ""))


def _progress(progress: ProgressView) -> RenderableType:
    words = Text(printable(progress.message), style="dim")
    if not progress.total or progress.total <= 0:
        return Text.assemble((amount(progress.done), "cyan"), "  ", words)
    share = min(max(progress.done / progress.total, 0.0), 1.0)
    line = Table.grid(padding=(0, 1, 0, 0))
    numbers = Text(f"{share:4.0%}  {amount(progress.done)} of {amount(progress.total)}", style="cyan")
    bar = ProgressBar(total=1.0, completed=share, width=_BAR_WIDTH, complete_style="cyan", finished_style="green")
    line.add_row(bar, numbers, words)
    return line
