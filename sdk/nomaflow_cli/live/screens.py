"""The screens of a followed run: the port, and the implementations for programs and pipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from nomaflow.client.values import AttemptView, EventView, LogLine, RunView
from nomaflow_cli.output import console as make_console
from nomaflow_cli.output import is_terminal, print_json_line
from nomaflow_cli.wording import clock_time, count, duration, printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["JsonScreen", "PlainScreen", "Screen", "choose_screen"]


class Screen(Protocol):
    """Shows a run while it is running. Calls come from one event loop, in the order of the events."""

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

    def tick(self) -> None:
        """Redraw if necessary: called about eight times a second."""

    def finish(self, run: RunView) -> None:
        """Show the outcome. Only ``close`` follows."""


def choose_screen(*, as_json: bool, console: Console | None = None) -> Screen:
    """Return the screen that suits standard output.

    :param console: shared with other code that prints while the screen is open
    """
    if as_json:
        return JsonScreen()
    console = console or make_console()
    if is_terminal():
        from nomaflow_cli.live.terminal import TerminalScreen

        return TerminalScreen(console=console)
    return PlainScreen(console=console)


class JsonScreen:
    """One JSON object a line: ``{"type": "event"|"log"|"kernel"|"run", …}``, the run always last."""

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def update(self, run: RunView) -> None:
        """Do nothing: the events contain it."""

    def event(self, event: EventView) -> None:
        """Print the event."""
        print_json_line({"type": "event", **event.to_json()})

    def log(self, lines: Sequence[LogLine]) -> None:
        """Print the lines."""
        for line in lines:
            print_json_line({"type": "log", **line.to_json()})

    def connected(self, up: bool) -> None:  # noqa: FBT001  # the port's signature
        """Print that the kernel is away or back."""
        print_json_line({"type": "kernel", "connected": up})

    def tick(self) -> None:
        """Do nothing."""

    def finish(self, run: RunView) -> None:
        """Print the run."""
        print_json_line({"type": "run", **run.to_json()})


class PlainScreen:
    """Lines without any escape sequence, for pipes and files: every change of state once, then the summary."""

    def __init__(self, *, console: Console) -> None:
        from nomaflow_cli.pages.log_lines import LogPrinter

        self._console = console
        self._logs = LogPrinter(console=console)
        self._shown: set[tuple[str, str]] = set()

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Flush."""
        self._console.file.flush()

    def update(self, run: RunView) -> None:
        """Print states that have not been printed yet."""
        if not run.terminal:
            self._run(run)
        for step in run.steps:
            for attempt in step.attempts:
                words = f"step {step.name} {attempt.state}{_facts(attempt)}"
                self._say(f"{step.name}/{attempt.attempt}", attempt.state, words)
        if run.terminal:
            self._run(run)

    def _run(self, run: RunView) -> None:
        self._say("", run.state, f"{run.job_id} {run.state}  {run.run_id}")

    def _say(self, what: str, state: str, words: str) -> None:
        if (what, state) not in self._shown:
            self._shown.add((what, state))
            self._console.file.write(f"— {printable(words)}\n")
            self._console.file.flush()

    def event(self, event: EventView) -> None:
        """Do nothing: the run contains it."""

    def log(self, lines: Sequence[LogLine]) -> None:
        """Print the lines."""
        self._logs.print(lines)

    def connected(self, up: bool) -> None:  # noqa: FBT001  # the port's signature
        """Print that the kernel is away or back."""
        self._console.file.write("the kernel is back\n" if up else "the kernel is away; waiting for it\n")

    def tick(self) -> None:
        """Do nothing."""

    def finish(self, run: RunView) -> None:
        """Print the summary."""
        from nomaflow_cli.pages.run_page import summary

        self._console.print(summary(run))


def _facts(attempt: AttemptView) -> str:
    facts = [f" try {attempt.attempt}"] if attempt.attempt > 1 else []
    if attempt.state == "RUNNING":
        facts.append(f" at {clock_time(attempt.started_at)} in pid {attempt.worker_pid}")
    if attempt.finished_at is not None and attempt.started_at is not None:
        facts.append(f" in {duration((attempt.finished_at - attempt.started_at).total_seconds())}")
    if attempt.rows_affected is not None:
        facts.append(f", {count(attempt.rows_affected, 'row')}")
    if attempt.error:
        facts.append(f": {attempt.error.splitlines()[0]}")
    return "".join(facts)
