"""Events, log lines, and the answers to triggers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nomaflow.client.values.runs import ReasonView
from nomaflow.client.values.shapes import NullableCount, NullableText, Shaped, iso_micros

__all__ = ["EventView", "LogLine", "PrunedView", "TriggerRefusal", "Triggered"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EventView(Shaped):
    """One committed transition or notice; ``kind`` is one of docs/events.md.

    :param seq: store-wide, rising in commit order; a watch resumes after any
    :param run_state: the run's state after a ``run.*`` event, else empty
    :param attempt_state: the attempt's state after an ``attempt.*`` event, else empty
    """

    seq: int
    at: datetime | None
    kind: str
    run_id: NullableText = ""
    job_id: NullableText = ""
    step: NullableText = ""
    attempt: NullableCount = 0
    run_state: NullableText = ""
    attempt_state: NullableText = ""
    reason: ReasonView | None = None
    host: NullableText = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class PrunedView:
    """Events that a watch misses because retention has removed them: some of those after one number, up to another."""

    after_seq: int
    through_seq: int


@dataclass(frozen=True, slots=True)
class LogLine:
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
class Triggered:
    """The answer to an accepted trigger; ``state`` is QUEUED, or SKIPPED if the overlap policy said so."""

    run_id: str
    deduplicated: bool = False
    state: str = "QUEUED"
    reason: ReasonView | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TriggerRefusal:
    """The answer to one refused trigger of a batch; ``code`` is the number of the gRPC status."""

    code: int
    reason: str
    message: str
