"""One kernel leads and the other stands by: what each says, and what becomes of the work when the leader goes.

The tests share a pair, and can run in any order.
"""

from __future__ import annotations

import asyncio
import html
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from page_forms import form_of
from pair_system import Pair

from nomaflow.client import KernelClient, TriggerOrder
from nomaflow.client.values import EventView, RunView
from nomaflow_api.v1 import kernel_service_pb2 as service
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.reason_statuses import read_details
from nomaflow_console.access.links import make_code
from nomaflow_console.access.secret import ConsoleSecret
from real_system import PATIENCE, eventually, launch

pytestmark = pytest.mark.postgres

TAKEOVER_SECONDS = 25.0
"""20 are promised; the rest is for a busy machine."""


@pytest.fixture
def roles(pair: Pair) -> Iterator[tuple[str, str]]:
    """Give the names of the kernel that leads and of the one that stands by; both run again afterwards."""
    names = ("a", "b") if pair.leader() == "a" else ("b", "a")
    yield names
    for name in names:
        if name not in pair.processes:
            pair.start_kernel(name)


class Held:
    """A run whose step is held, and a watcher that keeps all it sees."""

    def __init__(self, pair: Pair, client: KernelClient, run_id: str, gate: Any) -> None:
        self.run_id = run_id
        self.gate = gate
        self.items: list[EventView] = []
        self._pair = pair
        self._client = client
        self._watching = asyncio.create_task(self._watch())

    @classmethod
    async def start(cls, pair: Pair, client: KernelClient, name: str) -> Held:
        """Start a run and wait until its step is at work."""
        gate = pair.folder / f"gate-{name}"
        order = TriggerOrder(job_id="held", params={"ledger": str(pair.ledger), "gate": str(gate)})
        held = cls(pair, client, (await client.trigger(order)).run_id, gate)
        await asyncio.to_thread(eventually, lambda: pair.entries(held.run_id))
        return held

    async def _watch(self) -> None:
        async for item in self._client.watch_run(self.run_id):
            if isinstance(item, EventView):
                self.items.append(item)

    async def let_go(self) -> RunView:
        """Let the step end; check that it stayed in its process, and that the watcher saw each event once."""
        self.gate.touch()
        run = await self._client.wait(self.run_id)
        async with asyncio.timeout(TAKEOVER_SECONDS):
            await self._watching
        assert (run.state, run.rows_affected) == ("SUCCEEDED", 1)
        entries = self._pair.entries(self.run_id)
        assert [what for what, _, _ in entries] == ["start", "end"]
        assert len({(key, pid) for _, key, pid in entries}) == 1
        rows = await self._pair.sql(f"SELECT seq FROM events WHERE run_id = '{self.run_id}' ORDER BY seq")
        seen = [item.seq for item in self.items]
        assert seen == [row["seq"] for row in rows][-len(seen) :]
        assert self.items[-1].kind == "run.finished"
        lines = [line async for line in self._client.read_logs(self.run_id)]
        assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
        return run


async def test_a_standby_says_so_and_where_the_leader_is(pair: Pair, roles: tuple[str, str]) -> None:
    """Every call ends UNAVAILABLE with NOT_LEADER and the leader's address; the process counts as alive."""
    leader, standby = roles
    eventually(lambda: f"is the leader at {pair.address(leader)}" in pair.log(standby))
    async with grpc.aio.insecure_channel(pair.address(standby)) as channel:
        stub: Any = KernelServiceStub(channel)
        unary = stub.GetKernel(service.GetKernelRequest(), timeout=10)
        streamed = stub.WatchEvents(service.WatchEventsRequest(), timeout=10)
        host_stub: Any = HostGatewayServiceStub(channel)
        # Nothing is written: gRPC's client calls it INTERNAL where the refusal meets a message that is being sent.
        attach = host_stub.Attach(timeout=10)
        for call in (unary, streamed.read(), attach.read()):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            told = read_details(caught.value.trailing_metadata())
            assert (told.reason, told.metadata) == ("NOT_LEADER", {"leader": pair.address(leader)})
        health = health_pb2_grpc.HealthStub(channel)
        found = {}
        for name in ("", "nomaflow_api.v1.KernelService", "nomaflow_api.v1.HostGatewayService"):
            found[name] = (await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)).status
        assert list(found.values()) == [1, 2, 2]


async def test_who_asks_a_standby_reaches_the_leader(pair: Pair, roles: tuple[str, str]) -> None:
    """A client and the command get there with either address, or with several of which one is dead."""
    leader, standby = roles
    async with pair.client(standby) as client:
        assert (await client.get_kernel()).pid == pair.processes[leader].pid
    addresses = ("--address", "unix:/nowhere/a", "--address", f"{pair.address(standby)},{pair.address(leader)}")
    done = await asyncio.to_thread(pair.cli, "hosts", *addresses)
    assert done.code == 0, done.err
    assert "team" in done.out
    done = await asyncio.to_thread(pair.cli, "hosts", "--address", "unix:/nowhere/a,unix:/nowhere/b")
    assert (done.code, "unix:/nowhere/a, unix:/nowhere/b" in " ".join(done.err.split())) == (5, True)


async def test_a_leader_that_stops_hands_over(pair: Pair, roles: tuple[str, str]) -> None:
    """A leader stopped by SIGTERM exits with 0, the other leads at once, the host follows, its step runs on."""
    leader, standby = roles
    async with pair.client() as client:
        held = await Held.start(pair, client, "stop")
        terms = pair.terms(standby)
        assert await asyncio.to_thread(pair.stop, leader) == 0
        await asyncio.to_thread(eventually, lambda: pair.terms(standby) > terms, seconds=TAKEOVER_SECONDS)
        assert "stopping: got SIGTERM" in pair.log(leader)
        await held.let_go()


async def test_a_leader_that_is_killed_is_replaced(pair: Pair, roles: tuple[str, str]) -> None:
    """kill -9: the other takes over; a trigger sent meanwhile is one run; the killed one comes back and stands by."""
    leader, standby = roles
    async with pair.client() as client:
        held = await Held.start(pair, client, "kill")
        terms = pair.terms(standby)
        pair.kill(leader)
        order = TriggerOrder(job_id="quick", request_id="during", params={"ledger": str(pair.ledger)})
        first = await client.trigger(order)
        again = await client.trigger(order)
        assert (first.run_id, again.deduplicated) == (again.run_id, True)
        assert pair.terms(standby) == terms + 1
        told = len(pair.log(leader))
        pair.start_kernel(leader)
        stands_by = f"is the leader at {pair.address(standby)}"
        await asyncio.to_thread(eventually, lambda: stands_by in pair.log(leader)[told:])
        assert (await client.wait(first.run_id)).state == "SUCCEEDED"
        await held.let_go()


async def test_a_console_follows_the_kernel_that_leads(pair: Pair, roles: tuple[str, str], tmp_path: Path) -> None:
    """Its stream goes on without a new page, its pages are those of the new leader, and its forms act there."""
    leader, _ = roles
    both = f"{pair.address('a')},{pair.address('b')}"
    console = launch(
        "nomaflow_console", tmp_path, "--listen", "127.0.0.1:0", "--address", both, log_file=tmp_path / "log"
    )
    told = tmp_path / ".nomaflow" / "console"
    try:
        await asyncio.to_thread(eventually, told.exists)
        base = f"http://127.0.0.1:{told.read_text().split()[0].rpartition(':')[2]}"
        headers = {"origin": base, "sec-fetch-site": "same-origin", "accept": "text/html"}
        async with (
            httpx.AsyncClient(base_url=base, headers=headers, timeout=PATIENCE) as browser,
            pair.client() as client,
        ):
            code = make_code(ConsoleSecret.of(tmp_path / ".nomaflow"), "ann")
            assert (await browser.post("/login", data={"code": code})).status_code == 303
            stream = re.search('data-live="([^"]+)"', (await browser.get("/runs?since=ever")).text)
            assert stream is not None
            async with browser.stream("GET", html.unescape(stream[1])) as live:
                pair.kill(leader)
                order = TriggerOrder(job_id="quick", params={"ledger": str(pair.ledger)})
                run_id = (await client.trigger(order)).run_id
                async with asyncio.timeout(PATIENCE):
                    await anext(line async for line in live.aiter_lines() if run_id in line)
            shown = await browser.get(f"/runs/{run_id}")
            assert (shown.status_code, run_id in shown.text) == (200, True)
            form = form_of(await browser.get("/jobs/quick/pause"), "/jobs/quick/pause").fill(why="failover")
            assert (await browser.post(form.action, data=dict(form.fields))).status_code == 303
            assert await client.resume(job_id="quick")
    finally:
        console.stop()


async def test_a_leader_that_is_frozen_is_fenced(pair: Pair, roles: tuple[str, str]) -> None:
    """SIGSTOP: the other takes over in time. SIGCONT: what the old leader was asked meanwhile is refused by it."""
    leader, standby = roles
    async with pair.client(leader, connect_seconds=60) as old, pair.client(standby, leader) as client:
        held = await Held.start(pair, client, "freeze")
        terms = pair.terms(standby)
        lost = pair.log(leader).count("standing by again")
        pair.send(leader, signal.SIGSTOP)
        frozen_at = time.monotonic()
        order = TriggerOrder(job_id="quick", request_id="frozen", params={"ledger": str(pair.ledger)})
        asked = asyncio.create_task(old.trigger(order))
        await asyncio.to_thread(eventually, lambda: pair.terms(standby) > terms)
        assert time.monotonic() - frozen_at < TAKEOVER_SECONDS
        assert (await client.get_kernel()).pid == pair.processes[standby].pid
        pair.send(leader, signal.SIGCONT)
        await asyncio.to_thread(eventually, lambda: pair.log(leader).count("standing by again") > lost)
        assert not pair.processes[leader].ended
        triggered = await asked
        assert (await client.trigger(order)).run_id == triggered.run_id
        assert (await client.wait(triggered.run_id)).state == "SUCCEEDED"
        assert [what for what, _, _ in pair.entries(triggered.run_id)] == ["start", "end"]
        assert len(await pair.sql("SELECT 1 FROM runs WHERE request_id = 'frozen'")) == 1
        await held.let_go()


async def test_a_database_that_goes_away_loses_nothing(pair: Pair, roles: tuple[str, str]) -> None:
    """Sessions ended again and again, and the server restarted, while clients trigger: each acknowledged is one run."""
    leader, _ = roles
    async with pair.client(retry_seconds=60) as client:
        ended = asyncio.Event()

        async def trigger(number: int) -> str:
            order = TriggerOrder(job_id="quick", request_id=f"r{number}", params={"ledger": str(pair.ledger)})
            return (await client.trigger(order)).run_id

        async def end_sessions() -> None:
            while not ended.is_set():
                await pair.sql(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                await asyncio.sleep(0.05)

        ending = asyncio.create_task(end_sessions())
        acknowledged = [await trigger(number) for number in range(20)]
        ended.set()
        await ending
        more = asyncio.gather(*(trigger(number) for number in range(20, 60)))
        await asyncio.to_thread(pair.server.restart)
        acknowledged += await more
        assert len(set(acknowledged)) == 60
        for run_id in acknowledged:
            assert (await client.wait(run_id)).state == "SUCCEEDED"
            assert [what for what, _, _ in pair.entries(run_id)] == ["start", "end"]
        rows = await pair.sql("SELECT count(*) AS runs FROM runs WHERE request_id LIKE 'r%'")
        assert rows[0]["runs"] == 60
    assert not pair.processes[leader].ended


async def test_a_database_that_hangs_ends_no_kernel(pair: Pair, roles: tuple[str, str]) -> None:
    """It takes connections and answers nothing, with a call and a fire under way: the leader stands by, then works."""
    leader, _ = roles
    async with pair.client(retry_seconds=60) as client:
        held = await Held.start(pair, client, "hang")
        told = len(pair.log(leader))
        with pair.server.frozen():
            order = TriggerOrder(job_id="quick", request_id="hang", params={"ledger": str(pair.ledger)})
            asked = asyncio.create_task(client.trigger(order))
            await asyncio.to_thread(eventually, lambda: "standing by again" in pair.log(leader)[told:])
            async with grpc.aio.insecure_channel(pair.address(leader)) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as refused:  # before it is known that the database hangs
                    await KernelServiceStub(channel).GetKernel(service.GetKernelRequest(), wait_for_ready=True)
            assert read_details(refused.value.trailing_metadata()).reason == "NOT_LEADER"
            await asyncio.to_thread(eventually, lambda: "not leading, listening on" in pair.log(leader)[told:])
        assert (await client.wait((await asked).run_id)).state == "SUCCEEDED"
        assert "not waiting any longer" not in pair.log(leader)[told:]
        assert not any(pair.processes[name].ended for name in roles)
        await held.let_go()


async def test_a_server_without_room_ends_no_kernel(pair: Pair, roles: tuple[str, str]) -> None:
    """The lease cannot be renewed either, and nobody can take it: both stand by until there is room, then one leads."""
    async with pair.client(retry_seconds=60) as client:
        held = await Held.start(pair, client, "full")
        told = {name: len(pair.log(name)) for name in roles}
        await pair.sql(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
        )
        for table in ("kernel", "leadership"):
            await pair.sql(f"CREATE TRIGGER full_disk BEFORE UPDATE ON {table} EXECUTE FUNCTION no_room()")
        without = re.compile("not leading, .*cannot grow: could not extend file")
        for name in roles:
            await asyncio.to_thread(eventually, lambda n=name: without.search(pair.log(n)[told[n] :]))
        await pair.sql("DROP FUNCTION no_room CASCADE")
        order = TriggerOrder(job_id="quick", request_id="full", params={"ledger": str(pair.ledger)})
        assert (await client.wait((await client.trigger(order)).run_id)).state == "SUCCEEDED"
        assert not any(pair.processes[name].ended for name in roles)
        await held.let_go()


async def test_a_freeze_is_noticed_in_time_by_itself(pair: Pair) -> None:
    """A freeze is noticed with the default lease too, which runs out while the other tests run."""
    assert "is the leader at unix:/elsewhere/kernel.sock;" in pair.log("d")
    await asyncio.to_thread(eventually, lambda: pair.terms("d"))
    assert pair.led_since("d") - pair.frozen_at < TAKEOVER_SECONDS
    pair.send("c", signal.SIGCONT)
    await asyncio.to_thread(eventually, lambda: "standing by again" in pair.log("c"))
