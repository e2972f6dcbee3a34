"""Letters: what is sealed can be opened, within bounds, and by an older or newer reader."""

from __future__ import annotations

import msgspec
import pytest

from nomaflow_api.v1.letter_words import FinishedState, Isolation, LogCodec, TimeoutKind
from nomaflow_api.v1.letters import (
    MAX_TEXT,
    AttemptAck,
    AttemptOrder,
    AttemptReport,
    CallOutcome,
    CancelOrder,
    DispatchOrder,
    Finished,
    LogChunk,
    Progress,
    Started,
)
from nomaflow_api.v1.sealing import (
    LetterError,
    fitting,
    open_acks,
    open_cancel,
    open_dispatch,
    open_event,
    open_order,
    open_outcome,
    open_reports,
    seal,
)


def test_every_event_survives_the_wire() -> None:
    """Absent stays absent and zero stays zero."""
    events = [
        Started(at_us=0, worker_pid=2, generation=3, exclusive=True),
        LogChunk(line_count=2, first_at_us=1, last_at_us=2, levels=6, codec=LogCodec.JSONL_ZLIB, body=b"\x00\xff"),
        Progress(at_us=1, done=0.5, message="half"),
        Progress(at_us=1, done=0.0, total=0.0),
        Finished(at_us=1, state=FinishedState.SUCCEEDED),
        Finished(at_us=1, state=FinishedState.FAILED, reason_code="timed_out", reason="late", warnings=("a", "b")),
    ]
    assert [open_event(seal(event)) for event in events] == events
    nothing, zero = CallOutcome(state=FinishedState.SUCCEEDED), CallOutcome(state=FinishedState.FAILED, rows_affected=0)
    assert [open_outcome(seal(each)) for each in (nothing, zero)] == [nothing, zero]


def test_an_order_of_defaults() -> None:
    """A field that an order leaves out has its documented meaning, and takes no bytes."""
    order = AttemptOrder(attempt_key="r/s/1", run_id="r", job_id="j", step="s", attempt=1, callable="m:f")
    dispatch = open_dispatch(seal(DispatchOrder(attempt_key="r/s/1", epoch=1, callable="m:f", order=seal(order))))
    assert (dispatch.isolation, dispatch.timeout_kind) == (Isolation.BY_KIND, TimeoutKind.NONE)
    assert (dispatch.cancel_grace_ms, dispatch.run_id, dispatch.step) == (None, "r", "s")
    told = open_order(dispatch.order)
    assert (told.kwargs_json, told.params_json, told.previous_steps_json) == (b"", b"", b"")
    assert (told.prev_rows_affected, told.log_level, told.trigger_kind) == (None, "INFO", "api")
    assert len(dispatch.order) < 80
    assert open_cancel(seal(CancelOrder(attempt_key="r/s/1"))).reason_code == "canceled_by_user"


def test_a_report_holds_the_events_as_they_were_sealed() -> None:
    """Grouped by attempt, numbered from the first; nobody in between opens them."""
    event = seal(Started(at_us=1, worker_pid=2, generation=3))
    reports = [
        AttemptReport(attempt_key="a/b/1", first_seq=4, events=(event, event)),
        AttemptReport(attempt_key="c/d/1", first_seq=1),
    ]
    assert open_reports(seal(reports)) == reports
    acks = [AttemptAck(attempt_key="a/b/1", acknowledged_seq=5)]
    assert open_acks(seal(acks)) == acks


def test_a_field_of_a_newer_version_is_passed_over() -> None:
    """Fields may be added."""
    told = msgspec.msgpack.decode(seal(Started(at_us=1, worker_pid=2, generation=3)))
    assert open_event(msgspec.msgpack.encode({**told, "new": [1, 2]})) == Started(at_us=1, worker_pid=2, generation=3)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81", b"\x91" * 5000, b"{}", seal(CancelOrder(attempt_key=""))])
def test_what_is_no_letter_says_so(data: bytes) -> None:
    """Any bytes are refused with an error of our own."""
    with pytest.raises(LetterError, match="an event cannot be read"):
        open_event(data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain", "plain"), ("bad \udc80 byte", r"bad \udc80 byte"), ("x" * MAX_TEXT, "x" * MAX_TEXT)],
)
def test_texts_that_a_letter_cannot_hold_are_made_so(text: str, expected: str) -> None:
    """Lone surrogates are shown escaped."""
    assert fitting(text) == expected


@pytest.mark.parametrize("character", ["x", "\udc80", "é"])
def test_a_long_text_is_cut(character: str) -> None:
    """Whatever it holds, it fits afterwards."""
    event = Finished(at_us=1, state=FinishedState.FAILED, error=fitting(character * 100_000))
    assert open_event(seal(event)) == event
