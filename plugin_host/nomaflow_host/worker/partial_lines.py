"""Output that has no line feed yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow_api.v1.log_lines import MAX_LINE_BYTES

if TYPE_CHECKING:
    from nomaflow_host.attempt.masking import Masker


_LONGEST_REST = 3
"""The most bytes of a character in UTF-8 whose last byte has not come. So much is left of a line that was cut."""


class UnfinishedLine:
    """The unfinished line of a stream or pipe. Its size is limited: a line that never ends must not fill the memory.

    True if there is any text.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def __bool__(self) -> bool:
        return self._size > 0

    def add(self, text: str, masker: Masker) -> tuple[list[str], str]:
        """Take *text*; return the lines that it completed, and a piece of the current line if that is too long.

        :param masker: masks a piece before it is cut; a credential of which only the beginning has come is kept
        """
        *lines, rest = text.split("\n")
        if lines:
            lines[0] = _joined([*self._parts, lines[0]])
            self._parts, self._size = [], 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size <= MAX_LINE_BYTES + masker.longest:
            return lines, ""
        masked = masker.text(self.end())
        end = max(len(masked) - max(masker.longest, _LONGEST_REST), 0)
        self._parts, self._size = [masked[end:]], len(masked) - end
        return lines, masked[:end]

    def end(self) -> str:
        """Return and remove the rest."""
        piece = _joined(self._parts)
        self._parts, self._size = [], 0
        return piece


def _joined(parts: list[str]) -> str:
    """Return the text of parts; of bytes that were written, two parts may hold one character."""
    text = "".join(parts)
    if len(parts) < 2 or text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate of the author's own
        return text
