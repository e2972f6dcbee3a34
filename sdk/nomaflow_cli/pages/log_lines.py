"""Log lines for people: time, level, logger, step and text, safe for any terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from nomaflow.client.values import LogLine, from_micros
from nomaflow_cli.wording import clock_time, paragraph, printable

__all__ = ["LogPrinter", "log_text"]

_INDENT = 4
_LEVEL_STYLES = ((50, "bold white on red"), (40, "red"), (30, "yellow"), (20, "green"))


def log_text(line: LogLine, *, with_step: bool) -> Text:
    """Return one record; its control characters are spelled out, and lines after its first are indented."""
    text = Text(no_wrap=True)
    text.append(clock_time(from_micros(line.at_us), millis=True), style="dim")
    text.append(f" {line.level_name:<8}", style=_level_style(line.level))
    if with_step:
        text.append(f" {printable(line.step)}", style="dim cyan")
    text.append(f" {printable(line.logger)} ", style="dim")
    style = _level_style(line.level) if line.level >= 30 else ""
    text.append(paragraph(line.message, indent=_INDENT), style=style)
    if line.continued:
        text.append(" ⏎ continues", style="dim")
    if line.shared:
        text.append(" (shared)", style="dim")
    return text


def _level_style(level: int) -> str:
    return next((style for lowest, style in _LEVEL_STYLES if level >= lowest), "dim")


class LogPrinter:
    """Prints blocks of lines; the step is named only when it changes, so that one-step logs stay readable.

    :param console: receives the lines
    """

    def __init__(self, *, console: Console) -> None:
        self._console = console
        self._plain = not console.is_terminal

    def print(self, lines: Iterable[LogLine]) -> None:
        """Print lines in one write."""
        texts = [log_text(line, with_step=True) for line in lines]
        if self._plain:
            self._console.file.write("".join(f"{text.plain}\n" for text in texts))
            self._console.file.flush()
        elif texts:
            self._console.print(Text("\n").join(texts), soft_wrap=True)
