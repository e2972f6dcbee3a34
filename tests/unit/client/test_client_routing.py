"""Several kernels, one of which leads: a client finds it, wherever it was told to begin, and finds the next one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fake_kernel import FakeKernel, Refusal, make_run
from nomaflow.client import KernelClient, KernelUnreachable, SyncKernelClient
from nomaflow.client.values import EventView
from nomaflow_api.addresses import split_addresses


@pytest.fixture
async def standby(tmp_path: Path) -> AsyncIterator[FakeKernel]:
    """Serve a second fake kernel."""
    fake = FakeKernel(tmp_path / "s.sock")
    await fake.start()
    yield fake
    await fake.stop()


def sends_to(leader: str, times: int = 1) -> list[Refusal]:
    """Return what a standby answers; an empty leader is one that it does not know."""
    known = {"leader": leader} if leader else {}
    more = {"reason": "NOT_LEADER", "retry_after": 30.0 if leader else 0.05}
    return [Refusal(grpc.StatusCode.UNAVAILABLE, "stands by", **more, **known) for _ in range(times)]


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("unix:/a.sock", ("unix:/a.sock",)),
        ("127.0.0.1:1, [::1]:2 ,unix:/x y/k.sock", ("127.0.0.1:1", "[::1]:2", "unix:/x y/k.sock")),
        ("unix:/a,b/k.sock,localhost:3", ("unix:/a,b/k.sock", "localhost:3")),
        ("unix:/a,unix:/b", ("unix:/a", "unix:/b")),
        ("a:1,foo", ("a:1,foo",)),
        ("tls://a:1,tls://b:2, c:3,unix:/x,y", ("tls://a:1", "tls://b:2", "c:3", "unix:/x,y")),
        (" , ", ()),
        ("", ()),
    ],
)
def test_addresses_are_separated_by_commas(text: str, addresses: tuple[str, ...]) -> None:
    """Commas separate addresses, except within a path; a malformed address is kept, and refused later."""
    assert split_addresses(text) == addresses


async def test_a_standby_is_followed_to_the_leader_at_once(kernel: FakeKernel, standby: FakeKernel) -> None:
    """The client knows the standby only; the time after which that one may lead itself is not waited for."""
    standby.refusals["GetKernel"] = sends_to(kernel.address)
    async with asyncio.timeout(60), KernelClient(standby.address) as client:
        assert (await client.get_kernel()).version == "9"
        await client.get_kernel()
    assert (len(standby.requests["GetKernel"]), len(kernel.requests["GetKernel"])) == (1, 2)


async def test_a_leader_on_tcp_is_out_of_reach_without_a_token(kernel: FakeKernel, standby: FakeKernel) -> None:
    """The standby's own words are told at once; another address that the client knows is asked before that."""
    standby.refusals["GetKernel"] = sends_to("tls://localhost:1,tls://localhost:2", 2)
    async with asyncio.timeout(20), KernelClient(standby.address, connect_seconds=60) as client:
        with pytest.raises(KernelUnreachable, match="stands by") as caught:
            await client.get_kernel()
    assert (caught.value.reason, "nomaflow login" in caught.value.fix) == ("NOT_LEADER", True)
    async with asyncio.timeout(20), KernelClient([standby.address, kernel.address]) as client:
        assert (await client.get_kernel()).version == "9"


async def test_an_address_that_is_dead_is_passed_over(kernel: FakeKernel, tmp_path: Path) -> None:
    """A dead address in a list or a text with commas is skipped; the client stays with the one that answered."""
    dead = f"unix:{tmp_path}/dead.sock"
    for given in ([dead, kernel.address], f"{dead},{kernel.address}"):
        async with KernelClient(given, connect_seconds=10) as client:
            await client.get_kernel()
            await client.get_kernel()
    assert len(kernel.requests["GetKernel"]) == 4


async def test_a_leader_that_goes_away_is_looked_for_again(kernel: FakeKernel, standby: FakeKernel) -> None:
    """A standby that names a leader that is dead is asked again until it leads, always with the same request."""
    async with KernelClient([kernel.address, standby.address], connect_seconds=10, retry_seconds=10) as client:
        await client.get_kernel()
        await kernel.stop()
        standby.refusals["TriggerRun"] = [*sends_to(kernel.address, 2), *sends_to("")]
        started = await client.trigger("nightly")
    assert started.run_id == "run_1"
    assert len({request.request_id for request in standby.requests["TriggerRun"]}) == 1
    assert len(standby.requests["TriggerRun"]) == 4


async def test_a_stream_goes_on_with_the_next_leader(kernel: FakeKernel, standby: FakeKernel) -> None:
    """Both have the same history: the watcher resumes after the last event it has seen."""
    for each in (kernel, standby):
        each.runs["run_1"] = make_run(state="RUNNING")
        await each.finish("run_1", "RUNNING")
    await standby.finish("run_1")
    async with KernelClient([kernel.address, standby.address], retry_seconds=10) as client:
        seen = []
        async for item in client.watch_run("run_1"):
            if isinstance(item, EventView):
                seen.append(item.seq)
                if seen == [1]:
                    await kernel.stop()
    assert seen == [1, 2]
    assert standby.requests["WatchRun"][-1].after_seq == 1


async def test_nobody_who_answers_is_said_of_all(tmp_path: Path) -> None:
    """The error names every address that was given."""
    addresses = [f"unix:{tmp_path}/one.sock", f"unix:{tmp_path}/two.sock"]
    async with KernelClient(addresses, connect_seconds=0.3) as client:
        with pytest.raises(KernelUnreachable, match=r"one\.sock, unix:.*two\.sock"):
            await client.get_kernel()


@pytest.mark.parametrize(
    ("address", "message", "way_out"),
    [
        ("tls://nowhere.invalid:7433", "no kernel answers at tls://nowhere.invalid:7433; its name is not known", "DNS"),
        ("tls://127.0.0.1:1", "no kernel answers at tls://127.0.0.1:1", "its port can be reached"),
    ],
)
async def test_a_kernel_elsewhere_is_not_to_be_started_here(address: str, message: str, way_out: str) -> None:
    """The way out for a kernel on TCP is its port or its name, not a start on this machine."""
    async with KernelClient(address, token="t", connect_seconds=0.1) as client:
        with pytest.raises(KernelUnreachable, match=message) as caught:
            await client.get_kernel()
    assert (way_out in caught.value.fix, "nomaflow up" in caught.value.fix) == (True, False)


async def test_no_address_at_all_is_said() -> None:
    """An empty list is a mistake that has a way out."""
    async with KernelClient([], connect_seconds=0.1) as client:
        with pytest.raises(KernelUnreachable, match="no address") as caught:
            await client.get_kernel()
    assert "--address" in caught.value.fix


@pytest.mark.parametrize("client", [KernelClient, SyncKernelClient])
@pytest.mark.parametrize("address", [None, Path("/srv/team")])
def test_what_is_no_address_is_refused_at_once(client: type[KernelClient | SyncKernelClient], address: Any) -> None:
    """The error for None or a folder names the forms of an address, and the source that reads one in a folder."""
    with pytest.raises(TypeError, match=rf"address is .*{address}.*, expected .*'unix:/.*ProjectAddress"):
        client(address)


async def test_a_stream_is_not_cut_by_a_call_that_goes_elsewhere(kernel: FakeKernel, standby: FakeKernel) -> None:
    """Streams at one address continue while calls of the same client ask another one."""
    kernel.runs["run_1"] = make_run(state="RUNNING")
    seen: list[int] = []
    async with KernelClient(kernel.address) as client:

        async def watch() -> None:
            async for item in client.watch_run("run_1"):
                seen.extend([item.seq] if isinstance(item, EventView) else [])

        watching = asyncio.create_task(watch())
        await kernel.requested("WatchRun")
        kernel.refusals["GetKernel"] = sends_to(standby.address)
        await client.get_kernel()
        assert len(standby.requests["GetKernel"]) == 1
        await kernel.finish("run_1")
        async with asyncio.timeout(60):
            await watching
    assert seen == [1]
    assert not standby.requests["WatchRun"]


async def test_a_kernel_that_is_held_up_is_waited_for(tmp_path: Path) -> None:
    """Its socket takes the connection, and nothing comes for a while, as of a busy machine: it may have no other."""
    with socket.socket(socket.AF_UNIX) as held_up:
        held_up.bind(str(tmp_path / "k.sock"))
        held_up.listen()
        async with KernelClient(f"unix:{tmp_path}/k.sock", connect_seconds=0.2) as client:
            asked = asyncio.create_task(client.get_kernel())
            await asyncio.wait((asked,), timeout=1.5)
            assert not asked.done()
            held_up.close()
            with pytest.raises(KernelUnreachable):
                await asked
