"""The parts of a session that need no connection: encoding, back-off, addresses, clocks, failures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1 import run_pb2
from nomaflow_host.attempt.messages import Finished, FinishedState, LogChunk, Progress, Started
from nomaflow_host.outbox import Batch, BatchGroup
from nomaflow_host.session import AddressSource, encode_event, is_unix
from nomaflow_host.session.backoff import Backoff
from nomaflow_host.session.clocks import KernelClock
from nomaflow_host.session.encoding import cancel_from, order_from, report_request
from nomaflow_host.session.failures import CallFailure, FailureKind


def decoded(data: bytes) -> pb.AttemptEvent:
    return pb.AttemptEvent.FromString(data)


def test_every_event_survives_the_wire() -> None:
    """Absent stays absent and zero stays zero."""
    started = decoded(encode_event(Started(at_us=1, worker_pid=2, generation=3, exclusive=True))).started
    assert (started.at_us, started.worker_pid, started.generation, started.exclusive) == (1, 2, 3, True)
    chunk = LogChunk(line_count=2, first_at_us=1, last_at_us=2, levels=6, compressed=True, body=b"\x00\xff")
    log = decoded(encode_event(chunk)).log
    assert (log.line_count, log.levels, log.codec, log.body) == (2, 6, pb.LOG_CODEC_JSONL_ZLIB, b"\x00\xff")
    progress = decoded(encode_event(Progress(at_us=1, done=0.5, total=None, message="half"))).progress.progress
    assert (progress.done, progress.HasField("total"), progress.message) == (0.5, False, "half")
    nothing = decoded(encode_event(Finished(at_us=1, state=FinishedState.SUCCEEDED))).finished
    assert not nothing.HasField("result")
    assert not nothing.HasField("reason")
    zero = decoded(encode_event(Finished(at_us=1, state=FinishedState.SUCCEEDED, rows_affected=0))).finished
    assert zero.result.HasField("rows_affected")


def test_texts_that_protobuf_cannot_hold_are_made_so() -> None:
    """Lone surrogates are shown escaped, a long error is cut, and neither costs the outcome."""
    event = Finished(
        at_us=1,
        state=FinishedState.FAILED,
        error="bad \udc80 byte",
        reason_code="step_failed",
        reason="x" * 100_000,
        exception_types=tuple("E" for _ in range(1000)),
        warnings=("\ud800",),
    )
    finished = decoded(encode_event(event)).finished
    assert finished.state == run_pb2.ATTEMPT_STATE_FAILED
    assert finished.error == r"bad \udc80 byte"
    assert len(finished.reason.message) == 16 << 10
    assert len(finished.exception_types) == 100


def test_a_report_holds_the_events_as_they_were_encoded() -> None:
    """Grouped by attempt, numbered from the first."""
    data = encode_event(Started(at_us=1, worker_pid=2, generation=3, exclusive=False))
    groups = (
        BatchGroup(attempt_key="a/b/1", first_seq=4, events=(data, data)),
        BatchGroup(attempt_key="c/d/1", first_seq=1, unknown=True),
    )
    request = report_request(Batch(groups=groups, size=0), incarnation="me", epoch=9)
    assert (request.incarnation, request.epoch) == ("me", 9)
    assert [(each.attempt_key, each.first_seq, each.unknown) for each in request.attempts] == [
        ("a/b/1", 4, False),
        ("c/d/1", 1, True),
    ]
    assert request.attempts[0].events[1].SerializeToString() == data


def test_an_order_of_defaults() -> None:
    """A field that a dispatch leaves out has its documented meaning."""
    order = order_from(pb.DispatchCommand(attempt_key="r/s/1", trigger=run_pb2.Trigger()))
    assert (order.kwargs_json, order.params_json, order.previous_steps_json) == ("{}", "{}", "[]")
    assert (order.prev_rows_affected, order.cancel_grace_ms, order.log_level) == (None, None, "INFO")
    assert (order.isolation, order.timeout_kind, order.trigger_kind) == ("by_kind", "none", "api")
    cancel = cancel_from(pb.CancelCommand(), "r/s/1")
    assert (cancel.attempt_key, cancel.reason_code) == ("r/s/1", "canceled_by_user")


def test_the_back_off_doubles_with_jitter_and_begins_anew() -> None:
    """The pause grows from half a second to ten, with a fifth of jitter either way."""
    high = Backoff(first=0.5, most=10.0, draw=lambda _, most: most)
    assert [round(high.next(), 2) for _ in range(7)] == [0.6, 1.2, 2.4, 4.8, 9.6, 12.0, 12.0]
    high.reset()
    assert high.next() == pytest.approx(0.6)
    drawn = [Backoff(first=1, most=1).next() for _ in range(200)]
    assert min(drawn) >= 0.8
    assert max(drawn) <= 1.2
    assert len(set(drawn)) > 100


async def test_addresses_come_from_the_file_or_the_command_line(tmp_path: Path) -> None:
    """The file is read each time, and a change ends the wait at once."""
    file = tmp_path / "address"
    source = AddressSource(given="", file=file)
    assert source.current() == ()
    file.write_bytes(b"\xff")
    assert source.current() == ()
    file.write_text("unix:/a.sock\n")
    assert source.current() == ("unix:/a.sock",)
    waiting = asyncio.create_task(source.changed(60))
    await asyncio.sleep(0)
    file.write_text("127.0.0.1:7000\n")
    await asyncio.wait_for(waiting, 5)
    assert source.current() == ("127.0.0.1:7000",)
    assert AddressSource(given="a:1, unix:/b", file=file).current() == ("a:1", "unix:/b")
    assert is_unix("unix:/b")
    assert not is_unix("unix.example.org:1")


def test_silence_counts_from_the_send_time_of_what_was_answered() -> None:
    """An answer that comes late does not make the kernel look alive; one to another session counts for nothing."""
    now = [100.0]
    clock = KernelClock(clock=lambda: now[0])
    assert clock.silence == 0
    clock.welcomed(100.0)
    now[0] = 105.0
    clock.sent(1)
    now[0] = 112.0
    clock.heard(1)
    assert clock.silence == 7.0
    clock.sent(2)
    clock.forget_session()
    clock.heard(2)
    assert clock.silence == 7.0


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, FailureKind.TRY_AGAIN),
        (grpc.StatusCode.DEADLINE_EXCEEDED, FailureKind.TRY_AGAIN),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, FailureKind.TRY_AGAIN),
        (grpc.StatusCode.FAILED_PRECONDITION, FailureKind.ATTACH_AGAIN),
        (grpc.StatusCode.ABORTED, FailureKind.ATTACH_AGAIN),
        (grpc.StatusCode.UNAUTHENTICATED, FailureKind.REFUSED),
        (grpc.StatusCode.PERMISSION_DENIED, FailureKind.REFUSED),
        (grpc.StatusCode.INVALID_ARGUMENT, FailureKind.MALFORMED),
    ],
)
def test_what_a_failed_call_means(code: grpc.StatusCode, kind: FailureKind) -> None:
    """The code decides where the details have no reason of their own; broken details do no harm."""
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff\xff"))
    failure = CallFailure.of(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, "said"))
    assert failure.kind is kind
    assert "said" in str(failure)


def test_a_connection_that_failed_is_said_shortly() -> None:
    """gRPC repeats the address three times; a person needs the last words."""
    text = (
        "failed to connect to all addresses; last error: UNKNOWN: x: connect failed: error: No such file or directory"
    )
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), text)
    assert str(CallFailure.of(error)) == "UNAVAILABLE: nothing answers there (no such file or directory)"
