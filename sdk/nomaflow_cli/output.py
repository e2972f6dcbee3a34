"""Output of the command: JSON for programs, rich text for people, errors on stderr.

Everything that the command prints goes through here, and with it through `nomaflow_telemetry.visible_text`. Pages make
each text that they show ``printable``, so that it stays on its line; what still could steer a terminal is spelled out
here.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nomaflow_cli.wrapping import Hanging, broken
from nomaflow_telemetry.visible_text import printable, visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    from nomaflow_cli.errors import CliError
    from nomaflow_cli.invocation import Invocation

_PIPE_WIDTH = 160
_TERMINAL_WIDTH = 80
_BLANKS = re.compile(r" +(?=\n)")


def answer(invocation: Invocation, shape: Any, page: str | Callable[[], RenderableType]) -> None:
    """Print the answer of a command: the shape for a program, the page for a person.

    :param page: lines that are safe for a terminal, or a function that makes the page
    """
    if invocation.as_json:
        print_json(shape)
        return
    shown = page if isinstance(page, str) else page()
    if isinstance(shown, str):
        say(shown)
    else:
        console().print(shown)


def say(text: str) -> None:
    """Print lines for a person, at once."""
    print(visible(text), flush=True)


def tell(text: str, *, end: str = "\n") -> None:
    """Print lines for a person on stderr, at once."""
    print(visible(text), end=end, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one object, indented. The output is ASCII, so that bytes that are not UTF-8 stay what they are."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_json_line(value: Any) -> None:
    """Print one object on one line, at once."""
    print(json.dumps(value, allow_nan=False, separators=(",", ":")), flush=True)


def discard_output(*streams: int) -> None:
    """Write nothing more on streams that nobody reads, or that cannot be written: at exit, Python would try again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)


def is_terminal() -> bool:
    """Return True if a person sees the output."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb"


def console(*, stderr: bool = False) -> Console:
    """Return a console: as wide as the terminal, or, if there is none, wide and without any escape sequence."""
    from rich.console import Console
    from rich.segment import Segment

    class SafeConsole(Console):
        """Spells out what could steer the terminal, whatever is printed; only rich's own sequences pass.

        What is wider than the terminal is not cropped: it is to be pasted.
        """

        def print(self, *objects: Any, crop: bool = False, **options: Any) -> None:
            """Print as rich does."""
            super().print(*objects, crop=crop, **options)

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            """Yield the segments of anything that can be printed."""
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(visible(segment.text), segment.style)

    class PlainConsole(SafeConsole):
        """Writes lines no wider than their text: rich pads every line with blanks, which wrap in a terminal."""

        def print(self, *objects: Any, **options: Any) -> None:
            """Print at once, without blanks at the ends of lines."""
            with self.capture() as captured:
                super().print(*objects, **options)
            self.file.write(_BLANKS.sub("", captured.get()))
            self.file.flush()

    if sys.stderr.isatty() if stderr else is_terminal():
        return SafeConsole(stderr=stderr, highlight=False, markup=False, emoji=False)
    columns = os.environ.get("COLUMNS", "")
    width = (int(columns) if columns.isdecimal() else 0) or _PIPE_WIDTH
    return PlainConsole(
        stderr=stderr, highlight=False, markup=False, emoji=False, no_color=True, force_terminal=False, width=width
    )


def print_warnings(warnings: Iterable[str], *, as_json: bool) -> None:
    """Print warnings on stderr, about things to know although nothing is wrong."""
    for warning in warnings:
        if as_json:
            print(json.dumps({"warning": warning}), file=sys.stderr)
        else:
            from rich.text import Text

            console(stderr=True).print(Hanging(Text(f"! {printable(warning)}", style="yellow")))


def print_error(error: CliError, *, as_json: bool) -> None:
    """Print the error and the way out on stderr, unless its reader has gone."""
    try:
        print("\n".join(_error_lines(error, as_json=as_json)), file=sys.stderr)
    except BrokenPipeError:
        discard_output(2)


def _error_lines(error: CliError, *, as_json: bool) -> Iterator[str]:
    if as_json:
        yield json.dumps({"error": {"reason": error.reason, "message": error.message, "fix": error.fix or None}})
        return
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    red, dim, off = ("\x1b[31m", "\x1b[2m", "\x1b[0m") if coloured else ("", "", "")
    lines = [printable(line) for line in error.message.splitlines()] or [printable(error.reason)]
    told = [f"✘ {lines[0]}", *(f"  {line}" for line in lines[1:])]
    told += [f"  → {printable(line)}" for line in error.fix.splitlines()]
    if sys.stderr.isatty():
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdecimal() else os.get_terminal_size(sys.stderr.fileno()).columns
        told = [part for line in told for part in broken(line, width or _TERMINAL_WIDTH)]
    for line in told:
        yield re.sub("^✘", f"{red}✘{off}", re.sub("^  →", f"  {dim}→{off}", line))
