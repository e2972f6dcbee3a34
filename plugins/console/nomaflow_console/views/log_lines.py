"""One line of a log as the page's script and its templates get it, and as a file has it."""

from __future__ import annotations

import logging
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from nomaflow.client.values import from_micros, iso_micros
from nomaflow_console.views.ansi import plain_text, shown_text
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nomaflow.client.values import LogLine

LONGEST = 4000
"""The most characters of a line in a window; the rest of it comes when it is asked for."""


def clock(at_us: int, zone: tzinfo) -> str:
    """Return a time of day with milliseconds."""
    return from_micros(at_us).astimezone(zone).strftime("%H:%M:%S.%f")[:12]


def level_word(level: int) -> str:
    """Return the name of a level, or its number if it has none."""
    return logging.getLevelName(level).removeprefix("Level ")


def level_class(level: int) -> str:
    """Return the kind of a level, which decides how a line looks: ``debug``, ``info``, ``warning`` or ``error``."""
    return "error" if level >= 40 else "warning" if level >= 30 else "info" if level >= 20 else "debug"


def shown_line(line: LogLine, row: int, zone: tzinfo, *, longest: int = LONGEST) -> dict[str, Any]:
    """Return a line for the page.

    :param row: its number under the page's filter, from 0
    :param longest: the most characters of its text; ``cut`` says how many more there are
    :returns: ``text`` is a list of segments: text and classes, as :func:`nomaflow_console.views.ansi.shown_text` has
        them; ``older`` is what carriage returns have written over
    """
    text, older = shown_text(line.message)
    segments, cut = _cut(text, longest)
    shape: dict[str, Any] = {
        "row": row,
        "seq": line.seq,
        "at": line.at_us,
        "day": from_micros(line.at_us).astimezone(zone).strftime("%d %b %Y"),
        "clock": clock(line.at_us, zone),
        "level": level_word(line.level),
        "kind": level_class(line.level),
        "logger": printable(line.logger),
        "step": printable(line.step),
        "try": line.attempt,
        "text": segments,
    }
    optional = {"cut": cut, "older": older, "continued": line.continued, "shared": line.shared}
    return shape | {name: value for name, value in optional.items() if value}


def _cut(segments: Sequence[tuple[str, str]], longest: int) -> tuple[list[tuple[str, str]], int]:
    kept, left, cut = [], longest, 0
    for text, classes in segments:
        if left > 0:
            kept.append((text[:left], classes))
        cut += max(0, len(text) - max(left, 0))
        left -= len(text)
    return kept, cut


def file_line(line: LogLine) -> bytes:
    """Return a line for a file that a person reads: its time in UTC, level, step and try, logger, text."""
    head = f"{iso_micros(line.at_us)} {level_word(line.level)} {line.step}/{line.attempt} {line.logger}: "
    end = "" if line.continued else "\n"
    text = plain_text(line.message).replace("\n", "\n    ")  # so that no text looks like another line
    return (printable(head) + text + end).encode("utf-8", "replace")


def raw_line(line: LogLine) -> bytes:
    """Return the message as the program wrote it."""
    end = b"" if line.continued else b"\n"
    try:
        return line.message.encode("utf-8", "surrogateescape") + end
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return line.message.encode("utf-8", "surrogatepass") + end
