"""Log lines on the wire: one encoder and one decoder for every process.

A line is a JSON array ``[level, at_us, logger, message]``, or with a fifth element ``flags``, in ASCII, ended by a line
feed. Bytes that are not UTF-8 become lone surrogates (``surrogateescape``), which JSON's escapes keep. A chunk is many
lines, compressed in zlib's format if that makes it smaller.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING

from nomaflow_api.bounds import LAST_MOMENT_US, in_range
from nomaflow_api.log_levels import LEVEL_BITS
from nomaflow_api.v1.letter_words import LogCodec
from nomaflow_api.v1.letters import LogChunk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONTINUED = 1
"""Flag: the line continues in the next one."""
SHARED = 2
"""Flag: the line came from a shared worker's own output while several attempts ran in it."""
MAX_LINE_BYTES = 64 * 1024
"""The longest message of one line, in bytes of UTF-8; longer ones are cut into pieces."""
MAX_UNPACKED_BYTES = 2 * 1024 * 1024
"""The largest chunk, unpacked."""

UNREADABLE_LEVEL = 40
"""The level of the line that stands for one that cannot be read."""

_WORTH_COMPRESSING = 256
_MOST_LEVEL = 2**32 - 1
# The whole of JSON that a line may be: flat, so that nothing a host sends makes a parser recurse.
_LINE = re.compile(
    rb'\[(-?[0-9]{1,19}),(-?[0-9]{1,19}),("[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+")'
    rb',("[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+")(?:,([0-9]{1,9}))?\]\n?'
)


_MESSAGE = re.compile(rb'\[-?[0-9]+,-?[0-9]+,"[^"\\]*","(.*)"(?:,[0-9]+)?\]')


class LogChunkError(ValueError):
    """Raised when the body of a chunk is not in the format of this module."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """One line, decoded.

    :param at_us: microseconds since the epoch
    :param message: text; lone surrogates stand for bytes that are not UTF-8
    """

    level: int
    at_us: int
    logger: str
    message: str
    flags: int = 0

    @property
    def message_bytes(self) -> bytes:
        """The message as the program wrote it."""
        try:
            return self.message.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # a surrogate that stands for no byte, from the text of a str
            return self.message.encode("utf-8", "surrogatepass")


def encode_line(level: int, at_us: int, logger: str, message: str, flags: int = 0) -> bytes:
    """Return one line with its line feed. The message should be at most `MAX_LINE_BYTES` (see `split_message`).

    A time outside of all calendars, from a clock that somebody replaced, and a level beyond 32 bits become the nearest
    ones inside.
    """
    level = min(max(level, -_MOST_LEVEL), _MOST_LEVEL)
    at_us = at_us if in_range(at_us) else min(max(at_us, 0), LAST_MOMENT_US)
    tail = f",{flags}]\n" if flags else "]\n"
    head = f"[{level},{at_us},{encode_basestring_ascii(logger)},{encode_basestring_ascii(message)}"
    return (head + tail).encode("ascii")


def split_message(message: str, flags: int = 0) -> list[tuple[str, int]]:
    """Return *message* in pieces of at most `MAX_LINE_BYTES`, cut between characters, each with the flags of its line.

    :param flags: of the whole message; a short one is one piece
    """
    if len(message) * 4 <= MAX_LINE_BYTES:
        return [(message, flags)]
    raw = message.encode("utf-8", "surrogatepass")
    pieces, start = [], 0
    while start < len(raw):
        end = min(start + MAX_LINE_BYTES, len(raw))
        while end < len(raw) and raw[end] & 0xC0 == 0x80:
            end -= 1
        piece = raw[start:end].decode("utf-8", "surrogatepass")
        pieces.append((piece, flags if end == len(raw) else flags | CONTINUED))
        start = end
    return pieces


def pack_lines(lines: Sequence[bytes]) -> LogChunk:
    """Return encoded *lines* as one chunk.

    :param lines: at least one, each as `encode_line` made it, with or without its line feed
    :raises ValueError: if an entry is not a line; IndexError as well
    """
    body = b"\n".join([line.rstrip(b"\n") for line in lines]) + b"\n"
    small = zlib.compress(body, 1) if len(body) >= _WORTH_COMPRESSING else body
    compressed = len(small) < len(body)
    return LogChunk(
        line_count=len(lines),
        first_at_us=_time_of(lines[0]),
        last_at_us=_time_of(lines[-1]),
        levels=_levels_of(lines),
        codec=LogCodec.JSONL_ZLIB if compressed else LogCodec.JSONL,
        body=small if compressed else body,
    )


def split_lines(body: bytes, *, compressed: bool) -> list[bytes]:
    """Return the lines of a chunk, not decoded yet.

    :raises LogChunkError: if it is not compressed as said, or larger than `MAX_UNPACKED_BYTES`
    """
    return (_unpack(body) if compressed else body).splitlines()


def read_lines(
    body: bytes,
    *,
    compressed: bool,
    first_seq: int,
    line_count: int,
    at_us: int,
    after_seq: int = 0,
    before_seq: int = 0,
    min_level: int = 0,
) -> Iterator[tuple[int, LogLine]]:
    """Yield lines of a chunk with their numbers.

    A line that cannot be read becomes one that says so, of level 40; the others stay readable.

    :param at_us: the time of a line that cannot be read, if none before it was read
    :param after_seq: keeps lines after this one
    :param before_seq: keeps lines before this one; 0 for no end
    :param min_level: keeps lines of at least that level number
    """
    seq, end = first_seq, first_seq + line_count
    before_seq = before_seq or end
    trouble = "the chunk ends early"
    try:
        for raw in split_lines(body, compressed=compressed):
            if seq == end:
                return
            if after_seq < seq < before_seq and not _is_below(raw, min_level):
                try:
                    line = decode_line(raw)
                    at_us = line.at_us
                except LogChunkError as error:
                    line = _unreadable(at_us, f"this line cannot be read: {error}")
                yield seq, line
            seq += 1
    except LogChunkError as error:
        trouble = str(error)
    seq, end = max(seq, after_seq + 1), min(end, before_seq)
    if seq < end and min_level <= UNREADABLE_LEVEL:
        missing = "1 line" if end - seq == 1 else f"{end - seq} lines"
        yield seq, _unreadable(at_us, f"{missing} cannot be read: {trouble}")


def _is_below(raw: bytes, min_level: int) -> bool:
    """Return whether a line's level is below another; False for a line without one. Much cheaper than decoding it."""
    if not min_level:
        return False
    try:
        return int(raw[1 : raw.index(b",")]) < min_level
    except ValueError:
        return min_level > UNREADABLE_LEVEL


def _unreadable(at_us: int, trouble: str) -> LogLine:
    return LogLine(level=UNREADABLE_LEVEL, at_us=at_us, logger="nomaflow.kernel", message=trouble)


def message_of(line: bytes) -> str | None:
    """Return the message of a line, without checking or decoding the rest; None if it cannot be found."""
    found = _MESSAGE.fullmatch(line)
    try:
        return None if found is None else _text(b'"' + found[1] + b'"')
    except ValueError:  # an escape that JSON does not have, or bytes that are not UTF-8
        return None


def unpacked(body: bytes, *, compressed: bool) -> bytes | None:
    """Return the lines of a chunk as one text, to search it; None if they cannot be unpacked."""
    try:
        return _unpack(body) if compressed else body
    except LogChunkError:
        return None


def decode_line(line: bytes) -> LogLine:
    """Return one line decoded.

    :raises LogChunkError: if it is not a line, or of a time that no calendar has
    """
    parts = _LINE.fullmatch(line)
    if parts is not None:
        at_us = int(parts[2])
        try:
            if in_range(at_us):
                return LogLine(
                    level=int(parts[1]),
                    at_us=at_us,
                    logger=_text(parts[3]),
                    message=_text(parts[4]),
                    flags=int(parts[5] or 0),
                )
        except ValueError:  # an escape that JSON does not have, or bytes that are not UTF-8
            pass
    raise LogChunkError(f"expected a log line [level, at_us, logger, message], got {line[:80]!r}")


def _text(quoted: bytes) -> str:
    return str(json.loads(quoted)) if b"\\" in quoted else quoted[1:-1].decode("utf-8")


def _unpack(body: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        lines = unpacker.decompress(body, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise LogChunkError(f"expected a body in zlib's format: {error}") from error
    if unpacker.unconsumed_tail:
        raise LogChunkError(f"a chunk of more than {MAX_UNPACKED_BYTES} bytes unpacked (send smaller chunks)")
    return lines


def _time_of(line: bytes) -> int:
    return int(line.split(b",", 2)[1])


def _levels_of(lines: Sequence[bytes]) -> int:
    """Return the level bits of lines. Each distinct beginning is parsed once: most chunks have one or two."""
    found = 0
    for start in {line[: line.index(b",")] for line in lines}:
        found |= 1 << max(0, min(LEVEL_BITS - 1, int(start[1:]) // 10))
    return found
