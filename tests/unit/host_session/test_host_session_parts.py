"""The parts of a session that need no connection: back-off, addresses, clocks, failures, messages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import grpc
import grpc.aio
import pytest

from nomaflow.client.backoff import Backoff
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_host.session.addresses import AddressSource
from nomaflow_host.session.failures import CallFailure, FailureKind, SessionDropped
from nomaflow_host.session.kernel_clock import KernelClock
from nomaflow_host.session.link import AttachCall, write


def test_the_back_off_doubles_with_jitter_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause grows from half a second to ten, with a fifth of jitter either way."""
    high = Backoff(first=0.5, most=10.0)
    with monkeypatch.context() as patched:
        patched.setattr("random.uniform", lambda _, most: most)
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
    assert not waiting.done()
    file.write_text("127.0.0.1:7000\n")
    await asyncio.wait_for(waiting, 60)
    assert source.current() == ("127.0.0.1:7000",)
    assert AddressSource(given="a:1, unix:/b", file=file).current() == ("a:1", "unix:/b")


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


class _Ending:
    """A stream that ends while a message is sent."""

    async def write(self, _: object) -> None:
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "Internal error from Core"
        )


async def test_a_stream_that_ends_while_a_message_is_sent_is_told_in_words() -> None:
    """A kernel that stands by ends it at once, and gRPC has no word for that but its own."""
    with pytest.raises(SessionDropped, match="the kernel has ended it, or the connection broke"):
        await write(cast("AttachCall", _Ending()), pb.AttachRequest())
