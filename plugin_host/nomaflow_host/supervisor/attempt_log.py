"""One attempt's log on its way to the sink, in chunks."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from msgspec.structs import replace

from nomaflow_api.v1.log_lines import LogChunkError, decode_line, pack_lines
from nomaflow_host.attempt.messages import host_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nomaflow_api.v1.letters import LogChunk

_CHUNK_LINES = 500
_CHUNK_BYTES = 256 * 1024
_FLUSH_SECONDS = 0.04


class AttemptLog:
    """Gathers encoded lines into chunks; waiting lines go out after a moment at the latest.

    :param put: receives each chunk
    :param max_bytes: the most bytes of encoded lines that are kept, besides the last line; 0 for no limit
    :ivar dropped_lines: lines that were over that limit so far
    :ivar dropped_bytes: their size in bytes
    """

    def __init__(self, *, put: Callable[[LogChunk], None], max_bytes: int = 0) -> None:
        self._put = put
        self._max_bytes = max_bytes
        self._lines: list[bytes] = []
        self._bytes = 0
        self._kept_bytes = 0
        self.dropped_lines = 0
        self.dropped_bytes = 0
        self._newest_dropped = b""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, lines: Sequence[bytes]) -> None:
        """Add lines of the attempt, without their line feeds."""
        self._gather(self._within_bounds(lines) if self._max_bytes else lines)

    def host_line(self, level: int, text: str) -> None:
        """Add a line of the host's own. These are kept whatever the limit."""
        self._gather([host_line(level, text)])

    def flush(self) -> None:
        """Send the gathered lines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._lines:
            return
        packed = self._packed(self._lines)
        self._lines = []
        self._bytes = 0
        self._put(packed)

    def close(self) -> None:
        """Send the gathered lines, with the exact count of dropped ones, and the last line, such as a traceback."""
        last = [self._newest_dropped] if self.dropped_lines else []
        self.dropped_lines -= len(last)
        self.dropped_bytes -= sum(len(line) + 1 for line in last)
        if self.dropped_lines:
            self.host_line(
                logging.WARNING,
                f"max_log_bytes of {self._max_bytes} reached: {self.dropped_lines} lines of "
                f"{self.dropped_bytes} bytes were dropped",
            )
        self._gather(last)
        self.flush()

    def _gather(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self._lines.append(line)
            self._bytes += len(line)
            if len(self._lines) >= _CHUNK_LINES or self._bytes >= _CHUNK_BYTES:
                self.flush()
        if self._lines and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)

    def _packed(self, lines: list[bytes]) -> LogChunk:
        try:
            return pack_lines(lines)
        except (ValueError, IndexError):  # code in the worker has overwritten the shared memory
            whole = [line for line in lines if _is_whole(line)]
            lost = len(lines) - len(whole)
            said = "1 line of the log was" if lost == 1 else f"{lost} lines of the log were"
            text = f"{said} damaged in the worker's memory and {'is' if lost == 1 else 'are'} lost"
            return replace(pack_lines([*whole, host_line(logging.ERROR, text)]), lost_lines=lost)

    def _within_bounds(self, lines: Sequence[bytes]) -> list[bytes]:
        kept = []
        for line in lines:
            size = len(line) + 1
            if self.dropped_lines or self._kept_bytes + size > self._max_bytes:
                self.dropped_lines += 1
                self.dropped_bytes += size
                self._newest_dropped = line
            else:
                self._kept_bytes += size
                kept.append(line)
        return kept


def _is_whole(line: bytes) -> bool:
    try:
        decode_line(line)
    except LogChunkError:
        return False
    return True
