"""Sealing and opening letters.

``open_…`` returns what was sealed, and raises `LetterError` if the bytes are something else or break a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nomaflow_api.bounds import REPORTED_ATTEMPTS
from nomaflow_api.v1.letters import (
    MAX_TEXT,
    AttemptAck,
    AttemptOrder,
    AttemptReport,
    CallOutcome,
    CancelOrder,
    CheckedStep,
    DispatchOrder,
    Event,
    InventoryLine,
    Letter,
    ValueProblem,
    Verdict,
)


class LetterError(ValueError):
    """Raised when a letter cannot be read, or breaks a bound. Its text says where."""


seal: Callable[[Letter | Sequence[Letter]], bytes] = msgspec.msgpack.Encoder().encode
"""Return the bytes of a letter, or of several."""


def _opener(kind: Any, name: str) -> Callable[[bytes], Any]:
    decode = msgspec.msgpack.Decoder(kind).decode

    def opened(data: bytes) -> Any:
        try:
            return decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise LetterError(f"{name} cannot be read: {error}") from None

    return opened


open_order: Callable[[bytes], AttemptOrder] = _opener(AttemptOrder, "an order")
open_dispatch: Callable[[bytes], DispatchOrder] = _opener(DispatchOrder, "an order")
open_cancel: Callable[[bytes], CancelOrder] = _opener(CancelOrder, "an order to stop")
open_checked_steps: Callable[[bytes], list[CheckedStep]] = _opener(list[CheckedStep], "the steps to check")
open_problems: Callable[[bytes], list[ValueProblem]] = _opener(list[ValueProblem], "the problems of values")
open_event: Callable[[bytes], Event] = _opener(Event, "an event")
open_outcome: Callable[[bytes], CallOutcome] = _opener(CallOutcome, "an outcome")
open_reports: Callable[[bytes], list[AttemptReport]] = _opener(
    Annotated[list[AttemptReport], Meta(max_length=REPORTED_ATTEMPTS)], "a report"
)
open_acks: Callable[[bytes], list[AttemptAck]] = _opener(list[AttemptAck], "an answer to a report")
open_inventory: Callable[[bytes], list[InventoryLine]] = _opener(list[InventoryLine], "the inventory")
open_verdicts: Callable[[bytes], list[Verdict]] = _opener(list[Verdict], "the verdicts")


def fitting(text: str) -> str:
    """Return a text that fits into a letter: short, and without lone surrogates."""
    if len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - 1] + "…"
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()[:MAX_TEXT]
    return text
