"""Events, and the answers to triggers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct, field

from nomaflow.client.values.runs import ReasonView, StepValuesView
from nomaflow.client.values.shapes import NullableCount, NullableText, Shaped

__all__ = ["EventView", "PrunedView", "Replayed", "Triggered"]


class EventView(Shaped, frozen=True, kw_only=True):
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


class PrunedView(Struct, frozen=True, kw_only=True):
    """Events that a watch misses because retention has removed them: some of those after one number, up to another."""

    after_seq: int
    through_seq: int


class Replayed(Struct, frozen=True, kw_only=True):
    """The answer to an accepted replay; ``run_id`` is empty, and ``steps`` are set, if it was only validated.

    :param steps: what each step that would run gets, merged from all layers
    """

    run_id: str
    deduplicated: bool = False
    warnings: tuple[str, ...] = ()
    steps: tuple[StepValuesView, ...] = ()


class Triggered(Replayed, frozen=True, kw_only=True):
    """The answer to an accepted trigger, likewise; ``state`` is QUEUED, or SKIPPED if the overlap policy said so."""

    state: str = "QUEUED"
    reason: ReasonView | None = None
