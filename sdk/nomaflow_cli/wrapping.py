"""Lines on a narrow terminal: broken between words, with their indentation, and never within what is to be pasted.

A command that is broken by us would be two in a shell. One that is longer than a line is left to the terminal, which
knows that it is one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

_PROGRAMS = "nomaflow|chmod|chown|journalctl|kill|openssl|pip|sudo|systemctl"
_PIECE = re.compile(
    r"`[^`]*`\S*"
    rf"|(?:(?<=: )|(?<=→ )|(?<=  ))(?:{_PROGRAMS}|--[a-z]\S*) (?:'[^']*'|(?![,;] |  ).)+\S?"  # a command, or an option
    r"|(?<=: )\[(?:(?!; ).)+\S?"  # a table of TOML and a key
    r"|(?<!\S)'[^']*'(?!\w)\S*"
    r"|\S+"
)
_BEGIN = re.compile(r"\s*(?:[✘✔▲!→] |in )?")


def line_breaks(line: str, width: int) -> tuple[list[int], int]:
    """Return where to break a line, and the columns that its further lines are indented by.

    :param width: the columns of the terminal
    """
    begin = _BEGIN.match(line)
    hang = begin.end() if begin else 0
    breaks: list[int] = []
    for piece in _PIECE.finditer(line, hang):
        since = breaks[-1] if breaks else 0
        column = hang if breaks else 0
        if piece.start() > max(since, hang) and column + piece.end() - since > width:
            breaks.append(piece.start())
    return breaks, hang


def broken(line: str, width: int) -> Iterator[str]:
    """Yield a line in parts that a terminal has room for."""
    breaks, hang = line_breaks(line, width)
    for begin, end in zip([0, *breaks], [*breaks, len(line)], strict=True):
        yield (" " * hang if begin else "") + line[begin:end].rstrip()


class Hanging:
    """Lines for a page, each of which keeps its indentation where it is broken.

    :param indent: columns that all of them are indented by
    """

    def __init__(self, text: Text, *, indent: int = 0) -> None:
        self._text = text
        self._indent = indent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines, as wide as they are: a console must not crop them."""
        for line in self._text.split("\n", allow_blank=True):
            breaks, hang = line_breaks(line.plain, options.max_width - self._indent)
            for number, part in enumerate(line.divide(breaks)):
                part.rstrip()
                part.pad_left(self._indent + (hang if number else 0))
                part.no_wrap, part.overflow = True, "ignore"
                yield part
