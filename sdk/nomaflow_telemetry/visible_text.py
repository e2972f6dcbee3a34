"""The one way from any text that was stored or received to a terminal or a text log.

A terminal obeys what is printed: escape sequences move the cursor, rename the window or hide a link, a carriage return
writes over a line, and a line feed begins one that looks like ours. Here such characters become what they look like in
source code. A test fails for code that writes another way.
"""

from __future__ import annotations

import re

# Control characters (C0 but the tab, DEL, C1), marks and overrides of direction, separators of lines and paragraphs,
# annotations, tags (invisible letters), and surrogates, which stand for bytes that are not UTF-8.
_UNSAFE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff"
)
_IN_LINE = re.compile(f"[\n{_UNSAFE}]")
_IN_LINES = re.compile(f"[{_UNSAFE}]")


def printable(text: str) -> str:
    """Return text as one line that cannot steer a terminal: everything that could, line feeds too, is spelled out."""
    return text if text.isprintable() else _IN_LINE.sub(_spelled, text)


def visible(text: str) -> str:
    """Return text like `printable`, but with its line feeds; for a page of ours, whose parts are printable already."""
    return text if text.isprintable() else _IN_LINES.sub(_spelled, text)


def paragraph(text: str, *, indent: int) -> str:
    """Return text like `printable`, but with its line breaks: every further line is indented.

    So a traceback is readable, and still no text can look like a line of ours.
    """
    first, *more = [printable(line) for line in text.replace("\r\n", "\n").rstrip("\n").split("\n")]
    return "\n".join([first, *(" " * indent + line if line else "" for line in more)])


def first_line(text: str) -> str:
    """Return the first line of a text like `printable`, with ``…`` if there are more."""
    first, *more = text.splitlines() or [""]
    return printable(first) + (" …" if any(more) else "")


def _spelled(match: re.Match[str]) -> str:
    number = ord(match.group())
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8, kept by surrogateescape
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
