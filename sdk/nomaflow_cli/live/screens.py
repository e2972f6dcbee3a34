"""The screens of a followed run: the base, and those for programs and pipes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from nomaflow.client.values import AttemptView, EventView, LogLine, RunView
from nomaflow_cli.output import print_json_line
from nomaflow_cli.pages.log_lines import LogPrinter
from nomaflow_cli.pages.runs import summary
from nomaflow_cli.wording import clock_time, count, elapsed, printable

__all__ = ["JsonScreen", "PlainScreen", "Screen"]


class Screen:
    """Shows a run while it is running; this one shows nothing.

    Calls come from one event loop, in the order of the events.
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

    def tick(self) -> None:
        """Redraw if necessary: called about eight times a second."""

    def finish(self, run: RunView) -> None:
        """Show the outcome. Only ``close`` follows."""


class JsonScreen(Screen):
    """One JSON object a line: ``{"type": "event"|"log"|"kernel"|"run", …}``, the run always last."""

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

    def finish(self, run: RunView) -> None:
        """Print the run."""
        print_json_line({"type": "run", **run.to_json()})


class PlainScreen(Screen):
    """Lines without any escape sequence, for pipes and files: every change of state once, then the summary."""

    def __init__(self, *, console: Console) -> None:
        self._console = console
        self._logs = LogPrinter(console=console)
        self._shown: set[tuple[str, str]] = set()

    def update(self, run: RunView) -> None:
        """Print states that have not been printed yet; a run ends after its steps."""
        told = [
            (f"{step.name}/{each.attempt}", each.state, f"step {step.name} {each.state}{_facts(each)}")
            for step in run.steps
            for each in step.attempts
        ]
        told.insert(len(told) if run.terminal else 0, ("", run.state, f"{run.job_id} {run.state}  {run.run_id}"))
        for what, state, words in told:
            if (what, state) not in self._shown:
                self._shown.add((what, state))
                self._say(f"— {printable(words)}")

    def log(self, lines: Sequence[LogLine]) -> None:
        """Print the lines."""
        self._logs.print(lines)

    def connected(self, up: bool) -> None:  # noqa: FBT001  # as in the base
        """Print that the kernel is away or back."""
        self._say("the kernel is back" if up else "the kernel is away; waiting for it")

    def finish(self, run: RunView) -> None:
        """Print the summary."""
        self._console.print(summary(run))

    def _say(self, line: str) -> None:
        self._console.file.write(f"{line}\n")
        self._console.file.flush()


def _facts(attempt: AttemptView) -> str:
    facts = [f" try {attempt.attempt}"] if attempt.attempt > 1 else []
    if attempt.state == "RUNNING":
        facts.append(f" at {clock_time(attempt.started_at)} in pid {attempt.worker_pid}")
    if attempt.finished_at is not None and attempt.started_at is not None:
        facts.append(f" in {elapsed(attempt.started_at, attempt.finished_at)}")
    if attempt.rows_affected is not None:
        facts.append(f", {count(attempt.rows_affected, 'row')}")
    if attempt.error:
        facts.append(f": {attempt.error.splitlines()[0]}")
    return "".join(facts)
