"""The screens of a followed run: for programs, for pipes, and for terminals."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text

from nomaflow.client.values import AttemptView, EventView, LogLine, ProgressView, RunView, StepView
from nomaflow_cli.formatting import amount, clock_time, count, elapsed, extras_text, sign, trigger_words, trouble_line
from nomaflow_cli.output import console as make_console
from nomaflow_cli.output import is_terminal, print_json_line
from nomaflow_cli.pages.cells import why
from nomaflow_cli.pages.log_lines import print_log
from nomaflow_cli.pages.runs import summary
from nomaflow_telemetry.visible_text import first_line, printable

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


class Screen:
    """Shows a run while it is running; this one shows nothing.

    Calls come from one event loop, in the order of the events. ``connected`` may be called at any time.
    """

    def open(self) -> None:
        """Start. Called once, before everything else, and again after each ``close``."""

    def close(self) -> None:
        """Release the terminal; everything shown stays. May be called twice."""

    def update(self, run: RunView) -> None:
        """Show the current state of the run."""

    def event(self, event: EventView) -> None:
        """Show or ignore an event."""

    def log(self, lines: Sequence[LogLine]) -> None:
        """Show log lines."""

    def connected(self, up: bool) -> None:  # noqa: FBT001  # the one thing it says
        """Show that the kernel is away, or back."""

    def trouble(self, trouble: str) -> None:
        """Show what keeps the kernel from working; an empty text says that it works again."""

    def tick(self) -> None:
        """Redraw if necessary: called about eight times a second."""

    def finish(self, run: RunView) -> None:
        """Show the outcome. Only ``close`` follows."""


class JsonScreen(Screen):
    """One JSON object a line: ``{"type": "event"|"log"|"kernel"|"trouble"|"run", …}``, the run always last."""

    def event(self, event: EventView) -> None:
        """Print the event."""
        print_json_line({"type": "event", **event.to_json()})

    def log(self, lines: Sequence[LogLine]) -> None:
        """Print the lines."""
        for line in lines:
            print_json_line({"type": "log", **line.to_json()})

    def connected(self, up: bool) -> None:  # noqa: FBT001  # as in the base
        """Print that the kernel is away or back."""
        print_json_line({"type": "kernel", "connected": up})

    def trouble(self, trouble: str) -> None:
        """Print it."""
        print_json_line({"type": "trouble", "message": trouble})

    def finish(self, run: RunView) -> None:
        """Print the run."""
        print_json_line({"type": "run", **run.to_json()})


class PlainScreen(Screen):
    """Lines without any escape sequence, for pipes and files: every change of state once, then the summary.

    The lines of an attempt stand between its begin and its end.
    """

    def __init__(self, *, console: Console) -> None:
        self._console = console
        self._run: RunView | None = None
        self._shown: set[tuple[str, str]] = set()
        self._lines = 0

    def update(self, run: RunView) -> None:
        """Print states that have not been printed yet, as far as all log lines before them have been."""
        self._run = run
        for change in _changes(run):
            if change.ends and run.log_lines > self._lines:
                return
            self._tell([change])

    def log(self, lines: Sequence[LogLine]) -> None:
        """Print the lines, each after the begin of its attempt."""
        for (step, attempt), said in groupby(lines, key=lambda line: (line.step, line.attempt)):
            changes = [] if self._run is None else list(_changes(self._run))
            begin = (f"{step}/{attempt}", "RUNNING")
            count = next((number for number, each in enumerate(changes, 1) if each[:2] == begin), 0)
            self._tell(changes[:count])
            told = list(said)
            print_log(self._console, told)
            self._lines = told[-1].seq
        if self._run is not None:
            self.update(self._run)

    def connected(self, up: bool) -> None:  # noqa: FBT001  # as in the base
        """Print that the kernel is away or back."""
        self._say("the kernel is back" if up else "the kernel is away; waiting for it")

    def trouble(self, trouble: str) -> None:
        """Print it."""
        self._say(trouble_line(trouble))

    def finish(self, run: RunView) -> None:
        """Print what is left, and the summary."""
        self._tell(_changes(run))
        self._console.print(summary(run))

    def _tell(self, changes: Iterable[_Change]) -> None:
        for change in changes:
            if (change.what, change.state) not in self._shown:
                self._shown.add((change.what, change.state))
                self._say(f"— {printable(change.words)}")

    def _say(self, line: str) -> None:
        self._console.file.write(f"{line}\n")
        self._console.file.flush()


class _Change(NamedTuple):
    """A change of state of a run or of an attempt.

    :param what: ``step/attempt``; empty for the run
    :param ends: whether no line of the log can follow
    """

    what: str
    state: str
    words: str
    ends: bool = False


def _changes(run: RunView) -> Iterator[_Change]:
    """Yield the changes that a run shows, in order: it begins before its steps and ends after them."""
    begun = run.started_at is not None
    if begun or not run.terminal:
        state = "RUNNING" if begun else run.state
        yield _Change("", state, f"{run.job_id} {state}  {run.run_id}")
    for step in run.steps:
        for each in step.attempts:
            what, name = f"{step.name}/{each.attempt}", f"step {step.name}"
            tries = f" try {each.attempt}" if each.attempt > 1 else ""
            if each.started_at is not None or each.state == "RUNNING":
                where = f": it waits for {each.child_run_id}" if each.child_run_id else f" in pid {each.worker_pid}"
                yield _Change(what, "RUNNING", f"{name} RUNNING{tries} at {clock_time(each.started_at)}{where}")
            if each.state != "RUNNING":
                ends = each.state not in ("PENDING", "DISPATCHED")
                yield _Change(what, each.state, f"{name} {each.state}{tries}{_facts(each)}", ends)
    if run.terminal:
        yield _Change("", run.state, f"{run.job_id} {run.state}  {run.run_id}", ends=True)


def _facts(attempt: AttemptView) -> str:
    facts = []
    if attempt.finished_at is not None and attempt.started_at is not None:
        facts.append(f" in {elapsed(attempt.started_at, attempt.finished_at)}")
    if attempt.rows_affected is not None:
        facts.append(f", {count(attempt.rows_affected, 'row')}")
    if attempt.error:
        facts.append(f": {attempt.error.splitlines()[0]}")
    return "".join(facts)


class TerminalScreen(Screen):
    """Shows the run's steps at the bottom of the terminal and its log lines above them."""

    def __init__(self, *, console: Console) -> None:
        self._console = console
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
            told = printable(f"  {run.run_id}  {trigger_words(run.trigger)}")
            title = Text.assemble((printable(run.job_id), "bold"), (told, "dim"))
            self._console.print(title)
        self.tick()

    def log(self, lines: Sequence[LogLine]) -> None:
        """Print the lines above the steps."""
        print_log(self._console, lines)

    def connected(self, up: bool) -> None:  # noqa: FBT001  # as in the base
        """Show that the kernel is away or back."""
        self._away = not up
        if up:
            self._console.print(Text("  the kernel is back; nothing was lost meanwhile", style="dim"))
        self.tick()

    def trouble(self, trouble: str) -> None:
        """Print it above the live part."""
        self._console.print(Text(f"  {trouble_line(trouble)}", style="yellow" if trouble else "dim"))

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
        columns = (
            Column(no_wrap=True),
            Column(no_wrap=True, overflow="ellipsis", max_width=32),
            Column(justify="right", no_wrap=True),
            Column(no_wrap=True, overflow="ellipsis", ratio=1),
        )
        shape = Table.grid(*columns, padding=(0, 2, 0, 0))
        for step in self._run.steps:
            shape.add_row(*self._row(step))
        return Group(Rule(style="dim"), shape, self._foot(self._run))

    def _row(self, step: StepView) -> tuple[RenderableType, ...]:
        last = step.last
        glyph, style = sign(last.state)
        if last.state in ("RUNNING", "DISPATCHED"):
            glyph = self._spinner()
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
        return _SPINNER[int(time.monotonic() * 10) % len(_SPINNER)]


def _detail(attempt: AttemptView) -> RenderableType:
    """Return the most useful detail about a step now: its progress, its rows, or the reason for its state."""
    if attempt.state == "RUNNING":
        return _progress(attempt.progress) if attempt.progress is not None else Text("")
    if attempt.state == "SUCCEEDED":
        facts = [count(attempt.rows_affected, "row") if attempt.rows_affected is not None else ""]
        facts.append(extras_text(attempt.extras))
        return Text(" · ".join(fact for fact in facts if fact), style="dim")
    return Text(first_line(why(attempt)), style=sign(attempt.state)[1])


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
