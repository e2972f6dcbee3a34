"""A network that carries nothing for a while, or one way only, or breaks: nothing is lost and nothing runs twice."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest
from faults_system import FaultSystem, Work, open_faults
from tcp_proxy import TcpProxy, Way

from nomaflow_api.v1 import kernel_service_pb2 as service
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from real_system import Running, eventually

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def system() -> Iterator[FaultSystem]:
    """Start a kernel."""
    root = Path(tempfile.mkdtemp(prefix="nf-"))
    with open_faults(root) as started:
        yield started
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def proxy(system: FaultSystem) -> TcpProxy:
    """Start the way between host and kernel."""
    return system.proxy()


@pytest.fixture(scope="module")
def host(system: FaultSystem, proxy: TcpProxy) -> Running:
    """Start a host that reaches the kernel by it."""
    system.counting_project("team")
    return system.start_host("team", "--kernel", proxy.address)


@dataclass(frozen=True, kw_only=True)
class Ghost:
    """A client that vanished while it watched a run."""

    proxy: TcpProxy
    work: Work
    seen: int


@pytest.fixture(scope="module", autouse=True)
def ghost(system: FaultSystem, host: Running) -> Iterator[Ghost]:
    """Watch a run and vanish without a word, before anything else: what the kernel makes of it takes a while."""
    proxy = system.proxy()
    work = system.work("ticks").under_way()
    with grpc.insecure_channel(proxy.address) as channel:
        watch = KernelServiceStub(channel).WatchRun(service.WatchRunRequest(run_id=work.run_id))
        events = (event for message in watch for event in message.events)
        seen = next(event.seq for event in events if event.kind == "attempt.started")
        proxy.half_open(Way.UP)
        yield Ghost(proxy=proxy, work=work, seen=seen)


@pytest.fixture(autouse=True)
def healed(proxy: TcpProxy, host: Running, system: FaultSystem) -> Iterator[None]:
    """Have the next test find host and kernel together."""
    yield
    proxy.heal()
    system.until_state("team", "ATTACHED")


def both_ways(proxy: TcpProxy) -> None:
    """Carry nothing."""
    proxy.blackhole()


def kernel_gone(proxy: TcpProxy) -> None:
    """Leave the host with connections that lead nowhere, and let no others through."""
    proxy.blackhole()
    proxy.half_open(Way.DOWN)


@pytest.mark.parametrize("fault", [both_ways, kernel_gone])
def test_nothing_gets_through(
    system: FaultSystem, proxy: TcpProxy, host: Running, fault: Callable[[TcpProxy], None]
) -> None:
    """The host is UNREACHABLE within the lease and gets nothing new; what runs runs on, and is whole in the end."""
    before = system.last_event()
    works = [system.work("ticks").under_way(), system.work("sync_ticks").under_way()]
    fault(proxy)
    system.until_state("team", "UNREACHABLE", "AWAITED")
    queued = system.work("ticks")
    for work in works:
        work.goes_on()
        assert work.run().state == "RUNNING"
    eventually(lambda: "no session with the kernel" in host.log or "no answer to a heartbeat" in host.log)
    waiting = queued.run()
    assert (waiting.state, waiting.reason and waiting.reason.code) == ("QUEUED", "waiting_for_host")
    assert queued.ledger.entries() == []
    proxy.heal()
    queued.under_way()
    for work in (*works, queued):
        work.succeeds_whole()
    newest = system.last_event()
    kinds = [event.kind for event in system.events(before, lambda event: event.seq >= newest)]
    assert kinds.count("host.reattached") >= 1  # a busy machine may cost it another session


def test_connections_break_again_and_again(system: FaultSystem, proxy: TcpProxy, host: Running) -> None:
    """Reports cut in the middle are sent again, reports whose answer is lost are taken in once, on a slow network too."""
    works = [system.work(job, lines=10_000, width=400) for job in ("shout", "sync_shout")]
    for work in works:
        work.ledger.wait_for("hundred", 2)
    for way in (Way.UP, Way.DOWN, Way.UP):
        sent = proxy.bytes[Way.UP]
        eventually(lambda: proxy.bytes[Way.UP] > sent)  # noqa: B023  # asked within the round
        proxy.drop(way)
        _quiet(proxy, Way.DOWN if way is Way.UP else Way.UP)
        proxy.reset()
        proxy.heal()
    proxy.delay(0.05)
    for work in works:
        assert system.end(work.run_id).state == "SUCCEEDED"
        work.is_whole()


def _quiet(proxy: TcpProxy, way: Way) -> None:
    """Wait until what is on its way the other way has arrived: the report under way then hangs."""
    before = -1
    for _ in range(100):
        if proxy.bytes[way] == before:
            return
        before = proxy.bytes[way]
        time.sleep(0.1)


def test_a_cancel_while_the_host_hears_nothing(system: FaultSystem, proxy: TcpProxy, host: Running) -> None:
    """A cancel is kept while nothing gets from kernel to host, and is carried out once they meet again."""
    works = [system.work("ticks").under_way(), system.work("sync_ticks").under_way()]
    dropped = host.log.count("no answer to a heartbeat")
    proxy.drop(Way.DOWN)
    for work in works:
        run = system.api.cancel(work.run_id, why="never mind")
        assert (run.state, run.cancel.why if run.cancel else "") == ("RUNNING", "never mind")
    eventually(lambda: host.log.count("no answer to a heartbeat") > dropped)
    for work in works:
        work.goes_on()
        assert work.run().state == "RUNNING"
    proxy.heal()
    for work in works:
        run = system.end(work.run_id)
        assert (run.state, run.reason and run.reason.code) == ("CANCELED", "canceled_by_user")
        assert len(work.ledger.entries("start")) == 1
        beats = len(work.ledger.entries())
        system.work("ticks").under_way().succeeds_whole()
        assert len(work.ledger.entries()) == beats


def test_the_kernel_hears_nothing(system: FaultSystem, proxy: TcpProxy, host: Running) -> None:
    """A host whose way to the kernel is cut gets nothing new within the lease, and nothing is lost."""
    work = system.work("sync_ticks").under_way()
    proxy.drop(Way.UP)
    system.until_state("team", "UNREACHABLE", "AWAITED")
    work.goes_on()
    proxy.heal()
    work.succeeds_whole()


def test_a_client_that_stops_reading(system: FaultSystem, host: Running) -> None:
    """Unread lines of a client do not lie in the kernel's memory, and all arrive, in order, when it reads again."""
    assert system.kernel is not None
    work = system.work("ticks").under_way()
    with grpc.insecure_channel(system.kernel_address) as channel:
        stub = KernelServiceStub(channel)
        watch = stub.WatchEvents(service.WatchEventsRequest())
        shouting = system.work("shout", lines=10_000, width=400)
        log = stub.ReadLogs(service.ReadLogsRequest(run_id=shouting.run_id, follow=True))
        next(log)
        before = psutil.Process(system.kernel.pid).memory_info().rss
        assert system.end(shouting.run_id).state == "SUCCEEDED"
        shouting.is_whole()
        assert psutil.Process(system.kernel.pid).memory_info().rss < before + (64 << 20)
        work.succeeds_whole()
        last = system.last_event()
        seqs = [event.seq for message in _until(watch, last) for event in message.events]
        assert seqs == list(range(seqs[0], last + 1))
        numbers = [line.seq for block in log for line in block.lines]
        assert numbers == list(range(numbers[0], 10_001))


def _until(watch: Iterator[service.WatchEventsResponse], last: int) -> Iterator[service.WatchEventsResponse]:
    for message in watch:
        yield message
        if message.events and message.events[-1].seq >= last:
            return


def test_a_client_that_vanishes(system: FaultSystem, ghost: Ghost) -> None:
    """The kernel lets go of it within 15 seconds, the run is unaffected, and a watch resumes where the other broke."""
    eventually(lambda: ghost.proxy.stuck == 0, seconds=20)
    ghost.work.succeeds_whole()
    with grpc.insecure_channel(system.kernel_address) as channel:
        watch = KernelServiceStub(channel).WatchRun(
            service.WatchRunRequest(run_id=ghost.work.run_id, after_seq=ghost.seen)
        )
        kinds = [event.kind for message in watch for event in message.events]
    assert kinds == ["attempt.finished", "run.finished"]
