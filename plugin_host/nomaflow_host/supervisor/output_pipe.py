"""Lines from a pipe that is a process's standard output or error."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from nomaflow_api.v1.log_lines import CONTINUED, MAX_LINE_BYTES, PRINTED_LEVELS, encode_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from nomaflow_host.attempt.masking import WorkerMasker

_READ_BYTES = 64 * 1024
_TAIL_BYTES = 4 * 1024
_MOST_BYTES = 4  # of a character in UTF-8


class _Pipe:
    """The reading end of a pipe.

    :param fd: non-blocking; owned from now on
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.ended = False

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)
        self.ended = True

    def _waiting(self) -> bytes:
        """Return waiting output, at most 64 KiB; `ended` is True after the last."""
        try:
            data = b"" if self.ended else os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return b""
        self.ended = not data
        return data


class OutputPipe(_Pipe):
    """The reading end of a worker's output.

    :param name: the logger name of its lines, ``stdout`` or ``stderr``
    :param take: called with encoded lines and the flags to add to them
    :param masker: masks each line before it is cut into pieces
    """

    def __init__(
        self,
        *,
        fd: int,
        name: str,
        take: Callable[[list[tuple[str, int]], OutputPipe], None],
        masker: WorkerMasker,
    ) -> None:
        super().__init__(fd)
        self._name = name
        self._level = PRINTED_LEVELS[name]
        self._take = take
        self._masker = masker
        self._rest = b""

    def read(self) -> bool:
        """Read waiting output, at most 64 KiB; return True if there was any."""
        data = self._waiting()
        if not data:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        pieces = [piece for line in lines for piece in _pieces(self._masker.now.line(line))]
        # A credential of which only the beginning has come must not be cut: it could not be recognised any more.
        while len(self._rest) > MAX_LINE_BYTES + _MOST_BYTES * self._masker.now.longest:
            self._rest = self._masker.now.line(self._rest)
            end = _end_of_piece(self._rest)
            pieces.append((_text(self._rest[:end]), CONTINUED))
            self._rest = self._rest[end:]
        if pieces:
            self._take(pieces, self)
        return True

    def finish_line(self) -> None:
        """Take the unfinished line at the end."""
        rest, self._rest = self._rest, b""
        if rest:
            self._take(_pieces(self._masker.now.line(rest)), self)

    def encode(self, pieces: list[tuple[str, int]], flags: int) -> list[bytes]:
        """Return pieces as encoded lines, without their line feeds."""
        at_us = time.time_ns() // 1000
        return [encode_line(self._level, at_us, self._name, text, own | flags).rstrip(b"\n") for text, own in pieces]


class TailPipe(_Pipe):
    """The reading end of a template's output. It keeps only the last 4 KiB."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._tail = b""

    def read(self) -> bool:
        """Read waiting output, at most 64 KiB; return True if there was any."""
        data = self._waiting()
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        return bool(data)

    @property
    def text(self) -> str:
        """The last output, bytes that are not UTF-8 replaced."""
        return self._tail.decode("utf-8", "replace")


def _pieces(line: bytes) -> list[tuple[str, int]]:
    pieces = []
    while len(line) > MAX_LINE_BYTES:
        end = _end_of_piece(line)
        pieces.append((_text(line[:end]), CONTINUED))
        line = line[end:]
    return [*pieces, (_text(line), 0)]


def _end_of_piece(line: bytes) -> int:
    """Return where to cut a line that is too long: between two characters, if it is UTF-8 there."""
    ends = range(MAX_LINE_BYTES, MAX_LINE_BYTES - _MOST_BYTES, -1)
    return next((end for end in ends if end == len(line) or line[end] & 0xC0 != 0x80), MAX_LINE_BYTES)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
