"""Log lines for people: time, level, logger, step and text, safe for any terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from nomaflow.client.values import LogLine, from_micros
from nomaflow_cli.formatting import clock_time
from nomaflow_telemetry.visible_text import paragraph, printable

_INDENT = 4
_LEVEL_STYLES = ((50, "bold white on red"), (40, "red"), (30, "yellow"), (20, "green"))


def log_text(line: LogLine) -> Text:
    """Return one record; its control characters are spelled out, and lines after its first are indented."""
    text = Text(no_wrap=True)
    text.append(clock_time(from_micros(line.at_us), millis=True), style="dim")
    text.append(f" {line.level_name:<8}", style=_level_style(line.level))
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


def print_log(console: Console, lines: Iterable[LogLine]) -> None:
    """Print log lines in one write."""
    texts = [log_text(line) for line in lines]
    if not console.is_terminal:
        console.file.write("".join(f"{text.plain}\n" for text in texts))
        console.file.flush()
    elif texts:
        console.print(Text("\n").join(texts), soft_wrap=True)
