"""Events, and the answers to triggers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nomaflow.client.values.runs import ReasonView, StepValuesView
from nomaflow.client.values.shapes import NullableCount, NullableText, Shaped

__all__ = ["EventView", "PrunedView", "Replayed", "TriggerRefusal", "Triggered"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EventView(Shaped):
    """One committed transition or notice; ``kind`` is one of docs/events.md.

    :param seq: store-wide, rising in commit order; a watch resumes after any
    :param run_state: the run's state after a ``run.*`` event, else empty
    :param attempt_state: the attempt's state after an ``attempt.*`` event, else empty
    :param by: who asked for it; empty if nobody did
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
    by: NullableText = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class PrunedView:
    """Events that a watch misses because retention has removed them: some of those after one number, up to another."""

    after_seq: int
    through_seq: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Triggered:
    """The answer to an accepted trigger; ``state`` is QUEUED, or SKIPPED if the overlap policy said so.

    :param steps: for an order that was only validated: what each step that would run gets, merged from all layers
    """

    run_id: str
    deduplicated: bool = False
    state: str = "QUEUED"
    reason: ReasonView | None = None
    warnings: tuple[str, ...] = ()
    steps: tuple[StepValuesView, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """The answer to an accepted replay; ``run_id`` is empty, and ``steps`` are set, if it was only validated."""

    run_id: str
    deduplicated: bool = False
    warnings: tuple[str, ...] = ()
    steps: tuple[StepValuesView, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TriggerRefusal:
    """The answer to one refused trigger of a batch; ``code`` is the number of the gRPC status."""

    code: int
    reason: str
    message: str
