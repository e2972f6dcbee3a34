"""Versions that do not fit, bytes that are no message, and values that are too large or no text: each harms itself only."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from faults_system import FaultSystem, open_faults
from team_system import reason_of

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_api.v1.reason_statuses import read_details
from real_system import CLOCKS, Running, eventually

pytestmark = pytest.mark.e2e

MORE_STEPS = '''

def large_result(**_):
    """Return 5 MiB."""
    return {"blob": "x" * (5 << 20)}


def long_line(*, ledger, size, **_):
    """Log one line of that many bytes, and note its digest."""
    import hashlib

    line = os.urandom(size // 2).hex()
    note(ledger, "line", digest=hashlib.sha256(line.encode()).hexdigest())
    _log.info("%s", line)
    return len(line)


def odd_text(**_):
    """Say what is no text, in every way there is, and fail with an exception that cannot be printed."""
    _log.info("nul \\0 and \\x1b[31mred\\x1b[0m and lone \\udcff\\ud800")
    os.write(1, b"raw \\xff\\xfe\\xc3 and \\0\\n")

    class Odd(Exception):
        def __str__(self):
            raise ValueError("no text for you")

        __repr__ = __str__

    raise Odd("\\ud800")


def odd_message(**_):
    """Fail with a message that protobuf cannot hold."""
    raise ValueError("lone \\udcff\\ud800 and nul \\0 " + "x" * (3 << 20))
'''
MORE_JOBS = "".join(
    f'[[jobs]]\nid = "{name}"\noverlap = "allow"\nsteps = [{{ callable = "faulty.steps:{name}" }}]\n'
    for name in ("large_result", "long_line", "odd_text", "odd_message")
)
OTHER_VERSION = """
import sys
from nomaflow_host.session import encoding, reconnecting
for module in (encoding, reconnecting):
    module.PROTOCOL_MIN, module.PROTOCOL_MAX = 2, 3
from nomaflow_host.__main__ import main
sys.exit(main())
"""
MALFORMED = {
    "truncated": b"\x0a\x7f\x01",
    "no message": b"\xff" * 40,
    "bad UTF-8": b"\x0a\x04\x1a\x02\xff\xfe",
    "nested too deep": b"\xc3\x3e" * 101 + b"\xc4\x3e" * 101,  # groups in groups in an unknown field
}
UNKNOWN_FIELD = b"\xfa\x3f\x05hello"


@pytest.fixture(scope="module")
def system() -> Iterator[FaultSystem]:
    """Start a kernel."""
    root = Path(tempfile.mkdtemp(prefix="nf-"))
    clocks = (*CLOCKS[:2], "--lease-seconds", "20")  # a busy machine ends no session
    with open_faults(root, *clocks) as started:
        started.counting_project("team", more_steps=MORE_STEPS, more_jobs=MORE_JOBS)
        yield started
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def host(system: FaultSystem) -> Running:
    """Start a host."""
    return system.start_host("team")


@pytest.fixture
def channel(system: FaultSystem) -> Iterator[grpc.Channel]:
    """Open a channel to the kernel for bytes of our own."""
    with grpc.insecure_channel(system.kernel_address) as opened:
        yield opened


@pytest.fixture
def one_session(system: FaultSystem, host: Running) -> Iterator[None]:
    """Check that the host's session is the same after the test as before."""
    view = system.instance("team")
    assert view is not None
    yield
    after = system.instance("team")
    assert after is not None
    assert (after.pid, after.attached_at) == (view.pid, view.attached_at)
    assert "error id" not in system.log("kernel")


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, Mapping[str, str]]:
    """Return code, reason and data of the error that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    told = read_details(error.trailing_metadata())
    return error.code(), told.reason, told.metadata


def hello(**fields: Any) -> gateway.AttachRequest:
    """Return a hello of an unknown host."""
    told = {"protocol_min": 1, "protocol_max": 1, "host": "stranger", "incarnation": "stranger-1", "max_async": 1}
    return gateway.AttachRequest(hello=gateway.Hello(**{**told, **fields}))


@pytest.mark.parametrize("name", list(MALFORMED))
@pytest.mark.usefixtures("one_session")
def test_bytes_that_are_no_message(system: FaultSystem, channel: grpc.Channel, name: str) -> None:
    """Each costs the call or session it came on, and no other: a host's step beside it is whole."""
    work = system.work("sync_ticks").under_way()
    garbage = MALFORMED[name]
    for method in ("HostGatewayService/IntroduceManifest", "KernelService/CancelRun"):
        call = channel.unary_unary(f"/nomaflow_api.v1.{method}")
        assert refusal(lambda: call(garbage, timeout=10))[0] is grpc.StatusCode.INVALID_ARGUMENT  # noqa: B023  # called here
    for messages in ([garbage], [hello().SerializeToString(), garbage]):
        stream = channel.stream_stream("/nomaflow_api.v1.HostGatewayService/Attach")(iter(messages), timeout=10)
        assert refusal(lambda: list(stream))[0] is grpc.StatusCode.INVALID_ARGUMENT  # noqa: B023  # called here
    watch = channel.unary_stream("/nomaflow_api.v1.KernelService/WatchRun")(garbage, timeout=10)
    assert refusal(lambda: list(watch))[0] is grpc.StatusCode.INVALID_ARGUMENT
    eventually(lambda: system.state_of("stranger") != "ATTACHED")
    work.succeeds_whole()


@pytest.mark.usefixtures("one_session")
def test_messages_that_are_too_large(system: FaultSystem, channel: grpc.Channel) -> None:
    """A message over the kernel's 4 MiB is refused with the call or session it came on, and no other."""
    work = system.work("ticks").under_way()
    stub = HostGatewayServiceStub(channel)
    large = "x" * (5 << 20)
    with pytest.raises(grpc.RpcError) as report:
        stub.StreamReports(iter([gateway.StreamReportsRequest(incarnation=large)]), timeout=10)
    beat = gateway.AttachRequest(heartbeat=gateway.Heartbeat(manifest_digest=large))
    with pytest.raises(grpc.RpcError) as session:
        list(stub.Attach(iter([hello(), beat]), timeout=10))
    assert report.value.code() is session.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    eventually(lambda: system.state_of("stranger") != "ATTACHED")
    work.succeeds_whole()


@pytest.mark.usefixtures("one_session")
def test_what_a_newer_host_says_is_passed_over(channel: grpc.Channel) -> None:
    """Unknown fields and messages are ignored; of a range of protocols the highest that both speak is chosen."""
    newer = gateway.AttachRequest.FromString(UNKNOWN_FIELD)
    first = hello(protocol_max=9)
    first.hello.MergeFromString(UNKNOWN_FIELD)
    beat = gateway.AttachRequest(heartbeat=gateway.Heartbeat(sent_at_us=7))
    beat.heartbeat.MergeFromString(UNKNOWN_FIELD)
    answers = list(HostGatewayServiceStub(channel).Attach(iter([first, newer, beat]), timeout=10))
    assert answers[0].welcome.protocol == 1
    assert [answer.heartbeat_ack.sent_at_us for answer in answers[1:]] in ([7], [])  # it left right after


def test_a_host_of_another_version(system: FaultSystem, host: Running, channel: grpc.Channel) -> None:
    """A host of another version gets the kernel's range, exits 76 with advice; its runs stay QUEUED until one fits."""
    stub = HostGatewayServiceStub(channel)
    for low, high in ((2, 3), (0, 0)):
        request = hello(protocol_min=low, protocol_max=high)
        code, reason, data = refusal(lambda: list(stub.Attach(iter([request]), timeout=10)))  # noqa: B023  # called here
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROTOCOL_UNSUPPORTED")
        assert data == {"min": "1", "max": "1"}
    host.stop()
    work = system.work("ticks")
    arguments = ["--project", str(system.root / "team"), "--name", "team", "--kernel", system.kernel_address]
    done = subprocess.run(
        [sys.executable, "-P", "-c", OTHER_VERSION, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 76, done.stderr
    assert "Traceback" not in done.stderr
    assert "protocol" in done.stderr.splitlines()[-2] + done.stderr.splitlines()[-1]
    assert "host team on" in system.log("kernel")
    assert "is turned away" in system.log("kernel")
    run = work.run()
    assert (run.state, reason_of(run)) == ("QUEUED", "waiting_for_host")
    system.start_host("team")
    work.under_way().succeeds_whole()


@pytest.mark.usefixtures("one_session")
def test_a_result_of_five_mebibytes(system: FaultSystem) -> None:
    """A result over the limit fails only its attempt, with size and limit."""
    run = system.end(system.start("large_result"))
    assert (run.state, reason_of(run)) == ("FAILED", "result_too_large")
    assert str(1 << 20) in run.error.replace(",", "") or "1 MiB" in run.error


@pytest.mark.usefixtures("one_session")
def test_a_line_of_ten_mebibytes(system: FaultSystem) -> None:
    """A long line arrives in marked pieces of 64 KiB that make up the exact line."""
    ledger = system.ledger()
    run_id = system.start("long_line", ledger, size=10 << 20)
    assert system.end(run_id).rows_affected == 10 << 20
    lines = list(system.api.read_logs(run_id))
    assert [line.continued for line in lines] == [True] * (len(lines) - 1) + [False]
    assert max(len(line.message.encode()) for line in lines) <= 64 * 1024
    (noted,) = ledger.entries("line")
    assert hashlib.sha256("".join(line.message for line in lines).encode()).hexdigest() == noted["digest"]


@pytest.mark.usefixtures("one_session")
def test_text_that_is_no_text(system: FaultSystem) -> None:
    """Bytes and lone surrogates are kept as they were; exceptions that cannot be printed fail their attempt only."""
    run_id = system.start("odd_text")
    run = system.end(run_id)
    assert (run.state, reason_of(run)) == ("FAILED", "step_failed")
    assert "Odd" in run.error
    texts = [line.message for line in system.api.read_logs(run_id)]
    assert "raw \udcff\udcfe\udcc3 and \0" in texts
    lone = "\udcff\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    assert "nul \0 and \x1b[31mred\x1b[0m and lone " + lone in texts
    run = system.end(system.start("odd_message"))
    assert (run.state, reason_of(run)) == ("FAILED", "step_failed")
    assert len(run.error) <= 16 * 1024
    assert "lone" in run.error
