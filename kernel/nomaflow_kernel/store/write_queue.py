"""Operations that wait for the writer, and the delivery of their outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nomaflow_kernel.store.transaction import Operation, Outcome

__all__ = ["Waiting", "deliver"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """An operation and the future of its caller."""

    operation: Operation
    future: asyncio.Future[Any]


def deliver(batch: Sequence[Waiting], outcomes: Sequence[Outcome]) -> None:
    """Deliver each outcome to its caller; a cancelled caller is ignored, though its operation counts."""
    for waiting, outcome in zip(batch, outcomes, strict=True):
        if waiting.future.done():
            continue
        if outcome.error is None:
            waiting.future.set_result(outcome.value)
        else:
            waiting.future.set_exception(outcome.error)
