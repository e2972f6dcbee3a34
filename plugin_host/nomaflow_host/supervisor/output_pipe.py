"""Lines from a pipe that is a process's standard output or error."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from nomaflow_api.log_levels import PRINTED_LEVELS
from nomaflow_api.v1.log_lines import CONTINUED, encode_line, split_message
from nomaflow_host.worker.partial_lines import UnfinishedLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from nomaflow_host.attempt.masking import WorkerMasker

_READ_BYTES = 64 * 1024
_TAIL_BYTES = 4 * 1024


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
        self._unfinished = UnfinishedLine()

    def read(self) -> bool:
        """Read waiting output, at most 64 KiB; return True if there was any."""
        data = self._waiting()
        lines, piece = self._unfinished.add(data.decode("utf-8", "surrogateescape"), self._masker.now)
        pieces = [each for line in lines for each in split_message(self._masker.now.text(line))]
        if piece:
            pieces += split_message(piece, CONTINUED)
        if pieces:
            self._take(pieces, self)
        return bool(data)

    def finish_line(self) -> None:
        """Take the unfinished line at the end."""
        if self._unfinished:
            self._take(split_message(self._masker.now.text(self._unfinished.end())), self)

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
