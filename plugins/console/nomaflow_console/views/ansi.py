"""The text of a log line for a page: colours as names of classes, everything else that would steer a terminal as signs.

A program that prints for a terminal sends SGR sequences (colours), OSC sequences (titles, hidden links), moves of the
cursor, and carriage returns to write over its own line. Colours become one of a few classes. What is written over
becomes its last state. All other controls become visible signs, so that a page can neither hide nor fake a text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from nomaflow_telemetry.visible_text import visible

Segment: TypeAlias = tuple[str, str]
"""A text without control characters but line feed and tab, and its classes, separated by blanks; empty for none.

They are ``b d i u v s``, ``f0`` to ``f7`` for the text, ``g0`` to ``g7`` behind it. A bright colour looks like its
plain one.
"""

_MOST_OLDER = 50
"""How many overwritten states of a line are kept to be shown on demand."""

_SGR = re.compile(r"\x1b\[([0-9;:]*)m")
# Bold, dim, italic, underlined, inverse, struck through; and the codes that end them.
_ON = {1: "b", 2: "d", 3: "i", 4: "u", 7: "v", 9: "s"}
_OFF = {22: "bd", 23: "i", 24: "u", 27: "v", 29: "s"}


def shown_text(message: str) -> tuple[Sequence[Segment], Sequence[str]]:
    """Return a message as a page shows it: in segments of one look each, and what carriage returns have written over.

    :param message: any text; lone surrogates stand for bytes that are not UTF-8
    """
    if visible(message) == message:
        return [(message, "")] if message else [], ()
    lines, older = [], []
    for line in message.split("\n"):
        states = [state for state in line.removesuffix("\r").split("\r") if state]
        older += [plain_text(state) for state in states[:-1]]
        lines.append(states[-1] if states else "")
    return _segments("\n".join(lines)), older[-_MOST_OLDER:]


def plain_text(message: str) -> str:
    """Return a message without colours, everything else that would steer a terminal spelled out."""
    return visible(_SGR.sub("", message))


def _segments(text: str) -> list[Segment]:
    """Return text in segments: SGR sequences change the classes, and vanish; other controls are spelled out."""
    found: list[Segment] = []
    look = _Look()
    position = 0
    for match in _SGR.finditer(text):
        _append(found, text[position : match.start()], look)
        look.apply(match[1])
        position = match.end()
    _append(found, text[position:], look)
    return found


def _append(found: list[Segment], text: str, look: _Look) -> None:
    if not text:
        return
    classes, text = look.classes, visible(text)
    if found and found[-1][1] == classes:
        text = found.pop()[0] + text
    found.append((text, classes))


class _Look:
    """The attributes that SGR sequences have set so far."""

    def __init__(self) -> None:
        self._on: set[str] = set()
        self._colour = {"f": "", "g": ""}

    @property
    def classes(self) -> str:
        """The classes, in a fixed order."""
        return " ".join([*sorted(self._on), *filter(None, self._colour.values())])

    def apply(self, parameters: str) -> None:
        """Take over the codes of one sequence; unknown ones change nothing."""
        codes = [int(code) if code and len(code) < 6 else 0 for code in re.split("[;:]", parameters)]
        while codes:
            code = codes.pop(0)
            if code == 0:
                self._on.clear()
                self._colour.update(f="", g="")
            elif code in _ON:
                self._on.add(_ON[code])
            elif code in _OFF:
                self._on.difference_update(_OFF[code])
            elif code in (39, 49):
                self._colour["f" if code == 39 else "g"] = ""
            elif code in (38, 48):
                self._extended("f" if code == 38 else "g", codes)
            else:
                self._plain(code)

    def _plain(self, code: int) -> None:
        for first, layer in ((30, "f"), (40, "g"), (90, "f"), (100, "g")):
            if first <= code < first + 8:
                self._colour[layer] = f"{layer}{code - first}"

    def _extended(self, layer: str, codes: list[int]) -> None:
        """Take a colour of 256, or of red, green and blue, as the nearest of 8."""
        kind = codes.pop(0) if codes else 0
        if kind == 5 and codes:
            number = codes.pop(0)
            self._colour[layer] = f"{layer}{_of_256(number)}" if number < 256 else ""
        elif kind == 2 and len(codes) >= 3:
            red, green, blue = (min(codes.pop(0), 255) for _ in range(3))
            self._colour[layer] = f"{layer}{_of_rgb(red, green, blue)}"


def _of_256(number: int) -> int:
    if number < 16:
        return number % 8
    if number >= 232:
        grey = 8 + (number - 232) * 10
        return _of_rgb(grey, grey, grey)
    cube = number - 16
    red, green, blue = (0 if level == 0 else 55 + 40 * level for level in (cube // 36, cube // 6 % 6, cube % 6))
    return _of_rgb(red, green, blue)


def _of_rgb(red: int, green: int, blue: int) -> int:
    """Return the nearest of the 8 colours: which of the three are strong."""
    most = max(red, green, blue)
    if most < 48:
        return 0
    if most - min(red, green, blue) < 32:
        return 0 if most < 112 else 7
    half = most * 0.6
    return (red > half) + 2 * (green > half) + 4 * (blue > half)
