"""A manifest that the kernel refuses, or does not take in for now, is told in the answer to the reload."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import grpc
import pytest
from fake_gateway import FakeGateway, Session, abort_with
from msgspec import structs
from msgspec.structs import replace
from scripted_host import Host
from session_steps import MakeGateway, MakeHost, offer

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_host.session import conversation, link
from nomaflow_host.session.link import AttachCall
from nomaflow_host.supervisor.values import LoadOutcome
from nomaflow_project.reading.problems import Place
from waiting import PATIENCE, eventually

MANIFEST = offer(b'{"callables": {}}')


def loaded(generation: int) -> LoadOutcome:
    """Return a load that the host accepted, with a problem of its own."""
    problem = Place("").warning("other", "of the host")
    return LoadOutcome(
        accepted=True, generation=generation, digest=MANIFEST.digest, at_us=generation, problems=(problem,)
    )


class Refusing:
    """A kernel that refuses manifests for as long as it has a reason."""

    def __init__(self, kernel: FakeGateway, code: grpc.StatusCode, reason: str) -> None:
        self.reason = reason
        self.code = code
        self.calls = 0
        kernel.on_introduce = self._refuse

    async def _refuse(self, _request: pb.IntroduceManifestRequest, context: Any) -> None:
        self.calls += 1
        if self.reason:
            await abort_with(context, self.code, self.reason)


async def reload(kernel: FakeGateway, mine: Host, session: Session, outcome: LoadOutcome) -> pb.ReloadResult:
    """Reload the host with this outcome and return its answer."""
    mine.runner.next_reload = outcome
    answered = len(session.reload_results)
    session.send(reload=pb.ReloadCommand())
    await kernel.journal.until(lambda: len(session.reload_results) > answered)
    return session.reload_results[-1]


async def test_a_refused_manifest_is_a_refused_load(gateway: MakeGateway, host: MakeHost) -> None:
    """If the kernel refuses a manifest, the reload is answered with its reason, and the load counts as refused."""
    kernel = await gateway()
    refusing = Refusing(kernel, grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE")
    mine = host()
    mine.runner.offered = MANIFEST
    session = await kernel.session()
    result = await reload(kernel, mine, session, loaded(2))
    assert (result.accepted, result.generation, result.message) == (False, 2, "too_large")
    assert not result.HasField("loaded")
    told = [(each["severity"], each["code"], each["message"]) for each in json.loads(result.problems_json)]
    assert told == [("error", "manifest_refused", "too_large"), ("warning", "other", "of the host")]
    assert session.loads[-1].refused.problems[0].code == "manifest_refused"
    assert session.loads[-1].refused.at.ToMicroseconds() == 2
    refusing.reason = ""
    result = await reload(kernel, mine, session, loaded(3))
    assert (result.accepted, result.loaded.generation) == (True, 3)
    assert session.loads[-1].loaded.generation == 3


async def test_a_manifest_that_is_too_large_for_a_message_is_a_refused_load(
    gateway: MakeGateway, host: MakeHost
) -> None:
    """The host sent it again and again, and said gRPC's own words."""
    kernel = await gateway()
    mine = host()
    mine.runner.offered = large = offer(json.dumps({"text": os.urandom(4_500_000).hex()}).encode())
    session = await kernel.session()
    result = await reload(kernel, mine, session, structs.replace(loaded(2), digest=large.digest))
    assert not result.accepted
    assert "bytes compressed, expected at most 4,128,768; move large values of jobs to files" in result.message
    assert session.loads[-1].refused.problems[0].code == "manifest_refused"
    assert not kernel.journal.manifests
    mine.runner.offered = MANIFEST
    assert (await reload(kernel, mine, session, loaded(3))).accepted


async def test_a_refusal_is_told_again_until_the_kernel_accepts_the_manifest(
    gateway: MakeGateway, host: MakeHost
) -> None:
    """It stands in the next hello as the same refusal; a kernel that accepts the manifest is told that it serves."""
    kernel = await gateway()
    refusing = Refusing(kernel, grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE")
    mine = host()
    mine.runner.serve(MANIFEST)
    mine.runner.now = replace(mine.runner.now, load=loaded(1))
    session = await kernel.session()
    await kernel.journal.until(lambda: any(each.HasField("refused") for each in session.loads))
    refusing.reason = ""
    session.end()
    second = await kernel.session(2)
    assert second.hello.refused_load.problems[0].message == "too_large"
    assert second.hello.refused_load.at.ToMicroseconds() == 1
    await kernel.journal.until(lambda: any(each.HasField("loaded") for each in second.loads))
    second.end()
    assert not (await kernel.session(3)).hello.HasField("refused_load")
    assert refusing.calls == 2


async def test_a_load_while_the_kernel_is_away_ends_the_refusal_before_it(gateway: MakeGateway, host: MakeHost) -> None:
    """The next kernel is told that it serves, once; no hello says so, and the refusal would stand for ever."""
    first = await gateway()
    mine = host()
    mine.runner.now = replace(mine.runner.now, load=structs.replace(loaded(1), accepted=False))
    session = await first.session()
    await first.journal.until(lambda: session.hello.HasField("refused_load") or bool(session.loads))
    await first.kill()
    await eventually(lambda: not mine.session.attached.is_set())
    mine.runner.now = replace(mine.runner.now, load=loaded(2))
    second = await gateway(epoch=2)
    session = await second.session()
    await second.journal.until(lambda: [each.loaded.generation for each in session.loads] == [2])
    session.end()
    later = await second.session(2)
    await second.journal.until(lambda: len(later.heartbeats) > 2)
    assert not later.loads


async def test_a_load_that_the_host_refuses_replaces_the_refusal_of_the_kernel(
    gateway: MakeGateway, host: MakeHost
) -> None:
    """The newest load is what counts, also when the manifest of the serving one is refused once more."""
    kernel = await gateway()
    Refusing(kernel, grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE")
    mine = host()
    mine.runner.offered = MANIFEST
    session = await kernel.session()
    await reload(kernel, mine, session, loaded(2))
    result = await reload(
        kernel,
        mine,
        session,
        structs.replace(loaded(2), accepted=False, at_us=3, reasons=("SyntaxError",), problems=()),
    )
    assert result.message == "SyntaxError"
    session.end()
    second = await kernel.session(2)
    await kernel.journal.until(lambda: len(second.heartbeats) > 2)
    assert second.hello.refused_load.message == "SyntaxError"
    assert not second.loads


async def test_a_manifest_that_waits_is_a_problem_of_the_answer(
    gateway: MakeGateway, host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that has no room for it now may have some later: the load serves, and the answer says why not yet."""
    monkeypatch.setattr(conversation, "_INTRODUCE_SECONDS", 0.5)
    kernel = await gateway()
    refusing = Refusing(kernel, grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_ROOM")
    mine = host()
    mine.runner.offered = MANIFEST
    session = await kernel.session()
    result = await reload(kernel, mine, session, loaded(2))
    assert result.accepted
    first = json.loads(result.problems_json)[0]
    assert (first["severity"], first["code"]) == ("error", "manifest_pending")
    assert first["message"] == "the kernel has not accepted the manifest yet; the host keeps trying: no_room"
    refusing.reason = ""
    await kernel.journal.until(lambda: bool(kernel.journal.manifests))
    assert not any(each.HasField("refused") for each in session.loads)


async def test_a_manifest_that_waits_does_not_wait_for_what_another_was_refused_for(
    gateway: MakeGateway, host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason of a manifest that was refused for good is not that of the next one, which is not answered yet."""
    kernel, mine = await gateway(), host()
    Refusing(kernel, grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE")
    mine.runner.offered = MANIFEST
    session = await kernel.session()
    assert not (await reload(kernel, mine, session, loaded(2))).accepted

    async def hold(_request: pb.IntroduceManifestRequest, _context: Any) -> None:
        await asyncio.Event().wait()

    kernel.on_introduce = hold
    monkeypatch.setattr(conversation, "_INTRODUCE_SECONDS", 0.1)
    result = await reload(kernel, mine, session, loaded(3))
    assert json.loads(result.problems_json)[0]["message"].endswith("the host keeps trying")


async def test_a_reload_does_not_wait_for_room_in_the_store(
    gateway: MakeGateway, host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk each reload is answered after the first try, with the reason; the host goes on trying."""
    monkeypatch.setattr(conversation, "_INTRODUCE_SECONDS", 600.0)
    kernel = await gateway()
    refusing = Refusing(kernel, grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")
    mine = host()
    mine.runner.offered = MANIFEST
    session = await kernel.session()
    for generation in (2, 3, 4):
        result = await reload(kernel, mine, session, loaded(generation))
        assert result.accepted
        assert json.loads(result.problems_json)[0]["message"].endswith("the host keeps trying: store_full")
    refusing.reason = ""
    await kernel.journal.until(lambda: bool(kernel.journal.manifests))
    result = await reload(kernel, mine, session, loaded(7))
    assert [each["code"] for each in json.loads(result.problems_json)] == ["other"]


async def test_a_load_during_a_heartbeat_is_told_once(
    gateway: MakeGateway, host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat knows the load before it, which is told already: each telling is an event of the host."""
    kernel, mine = await gateway(), host()
    mine.runner.now = replace(mine.runner.now, load=loaded(1))
    session = await kernel.session()
    begun, held = asyncio.Event(), asyncio.Event()

    async def write(call: AttachCall, message: pb.AttachRequest) -> None:
        if message.HasField("heartbeat"):
            begun.set()
            await held.wait()
        await link.write(call, message)

    monkeypatch.setattr(conversation, "write", write)
    await asyncio.wait_for(begun.wait(), PATIENCE)
    reloading = asyncio.create_task(reload(kernel, mine, session, loaded(2)))
    await eventually(lambda: mine.runner.now.load == loaded(2))
    held.set()
    assert (await reloading).accepted
    beats = len(session.heartbeats)
    await kernel.journal.until(lambda: len(session.heartbeats) > beats + 1)
    assert [each.loaded.generation for each in session.loads] == [2]
