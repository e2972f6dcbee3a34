"""Log lines, and the blocks in which they are stored."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from nomaflow.client.values.shapes import iso_micros

__all__ = ["LogChunk", "LogLine"]

_PLAIN = re.compile(r"[A-Za-z0-9 _:;,=<>/%#@!&'~-]+")
"""Patterns that match only themselves, and that are stored unchanged as part of a message."""


class LogLine(Struct, frozen=True):
    """One line of a run's log.

    :param seq: counts from 1 within the run, without gaps
    :param at_us: microseconds since the epoch, by the host's clock
    :param level: the number of the standard levels
    :param message: text; bytes that are not UTF-8 are lone surrogates (Python's ``surrogateescape``)
    :param continued: True if the line continues in the next one
    :param shared: True for output of a shared worker while several attempts ran in it
    """

    seq: int
    at_us: int
    level: int
    logger: str
    step: str
    attempt: int
    message: str
    continued: bool = False
    shared: bool = False

    @property
    def level_name(self) -> str:
        """The name of the level, such as ``INFO``."""
        return logging.getLevelName(self.level)

    def to_json(self) -> dict[str, Any]:
        """Return the line in the shape of docs/cli.md; ``continued`` and ``shared`` appear only if true."""
        shape: dict[str, Any] = {
            "seq": self.seq,
            "ts": iso_micros(self.at_us),
            "level": self.level_name,
            "logger": self.logger,
            "step": self.step,
            "attempt": self.attempt,
            "message": self.message,
        }
        if self.continued:
            shape["continued"] = True
        if self.shared:
            shape["shared"] = True
        return shape


@dataclass(frozen=True, kw_only=True, slots=True)
class LogChunk:
    """A block of lines of one attempt, as stored. Lines of a run have consecutive numbers, without gaps.

    :param first_seq: the number of its first line
    :param levels: the levels that occur: bit n is set for levels 10·n to 10·n+9
    :param first_at_us: the time of its first line, microseconds since the epoch, by the host's clock
    :param size_bytes: of the body as stored
    :param body: JSON arrays ``[level, at_us, logger, message]`` in ASCII, each ended by a line feed; empty if it was
        left out
    :param compressed: True if the body is in zlib's format
    """

    first_seq: int
    line_count: int
    step: str
    attempt: int
    levels: int
    first_at_us: int
    size_bytes: int
    body: bytes = field(default=b"", repr=False)
    compressed: bool = False

    @classmethod
    def of(cls, message: Any) -> LogChunk:
        """Return the value of a message; its body is kept as bytes."""
        return cls(**{name: getattr(message, name) for name in cls.__dataclass_fields__})

    @property
    def last_seq(self) -> int:
        """The number of its last line."""
        return self.first_seq + self.line_count - 1

    def raw_lines(self) -> list[bytes]:
        """Return the lines as stored, the first being number ``first_seq``: to search without decoding each.

        :raises ValueError: if the body cannot be unpacked
        """
        # Imported here: commands that read no chunk start faster.
        from nomaflow_api.v1.log_lines import split_lines

        return split_lines(self.body, compressed=self.compressed)

    def search(self, pattern: re.Pattern[str], *, min_level: int = 0) -> Iterator[LogLine]:
        """Yield the lines whose message matches; lines that do not match are not decoded.

        :param min_level: keeps lines of at least that level number
        """
        from nomaflow_api.v1.log_lines import message_of, unpacked

        body = unpacked(self.body, compressed=self.compressed)
        if body is None:
            yield from (line for line in self.lines(min_level=min_level) if pattern.search(line.message))
            return
        if _PLAIN.fullmatch(pattern.pattern):
            flags = pattern.flags & re.IGNORECASE
            if re.search(pattern.pattern.encode(), body, flags) is None:
                return
        hits = set()
        for seq, raw in enumerate(body.splitlines(), start=self.first_seq):
            message = message_of(raw)
            if message is None or pattern.search(message):
                hits.add(seq)
        if hits:
            for line in self.lines(after_seq=min(hits) - 1, before_seq=max(hits) + 1, min_level=min_level):
                if line.seq in hits and pattern.search(line.message):
                    yield line

    def lines(self, *, after_seq: int = 0, before_seq: int = 0, min_level: int = 0) -> Iterator[LogLine]:
        """Yield the lines, decoded; one that cannot be read becomes one that says so.

        :param after_seq: keeps lines after this one
        :param before_seq: keeps lines before this one; 0 for no end
        :param min_level: keeps lines of at least that level number
        """
        from nomaflow_api.v1.log_lines import CONTINUED, SHARED, read_lines

        found = read_lines(
            self.body,
            compressed=self.compressed,
            first_seq=self.first_seq,
            line_count=self.line_count,
            at_us=self.first_at_us,
            after_seq=after_seq,
            before_seq=before_seq,
            min_level=min_level,
        )
        for seq, line in found:
            yield LogLine(
                seq=seq,
                at_us=line.at_us,
                level=line.level,
                logger=line.logger if line.logger.isascii() else line.logger.encode("utf-8", "replace").decode(),
                step=self.step,
                attempt=self.attempt,
                message=line.message_bytes.decode("utf-8", "surrogateescape"),
                continued=bool(line.flags & CONTINUED),
                shared=bool(line.flags & SHARED),
            )
