"""A host of one team that pretends to be another team, or to speak for it: refused, and nothing changes."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import zlib
from typing import Any

import grpc
import pytest
from teams_kernel import PATIENCE, Team, TeamsKernel, host_principal, job, manifest, refusal, started, succeeded

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.letter_words import AckStatus, VerdictAction
from nomaflow_api.v1.letters import InventoryLine
from nomaflow_kernel.access.grants import Grant
from nomaflow_kernel.access.principals import ANYONE, Principal, PrincipalKind
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.history.states import RunState


async def _content(teams: TeamsKernel) -> tuple[Any, ...]:
    """Return what the database says of runs, attempts, events and manifests."""
    events = await teams.events()
    details = await teams.store.run_details([event.run_id for event in events if event.run_id])
    return details, events, await teams.store.manifests()


async def _running(teams: TeamsKernel) -> tuple[Team, str, str]:
    """Return team b with a step of its job in its hands, the run and the attempt's key."""
    b = await (await teams.team("teamb")).attach()
    await b.introduce([job("b.job")])
    run_id = await teams.run("b.job")
    return b, run_id, (await b.order()).attempt_key


async def test_a_host_attaches_under_the_name_of_its_certificate_only(teams: TeamsKernel) -> None:
    """A4: the stream ends with PERMISSION_DENIED, the refusal is noted for the audit, and the real host goes on."""
    b, run_id, key = await _running(teams)
    a = await teams.team("teama")
    a.host, a.incarnation = "teamb", "incarnation-evil"
    before = await _content(teams)
    assert await refusal(a.attach()) == "PERMISSION_DENIED"
    assert (await teams.audited("Attach", "PERMISSION_DENIED", "host:teama")).target in ("", "host:teamb")
    assert await _content(teams) == before
    assert teams.sessions.of_instance("teamb", "incarnation-evil") is None
    await b.report(key, started(), succeeded())
    await teams.reaches(run_id, RunState.SUCCEEDED)


async def test_a_token_of_a_user_opens_no_session(teams: TeamsKernel) -> None:
    """A8: users and services are no hosts, whatever their grants."""
    channel = await teams.door("ci", Principal(kind=PrincipalKind.SERVICE, name="ci"))
    ci = Team(teams, channel, host="teamb")
    assert await refusal(ci.attach()) == "PERMISSION_DENIED"
    assert await refusal(ci.report("run/one/1", started())) == "PERMISSION_DENIED"
    assert await refusal(ci.introduce([job("x")])) == "PERMISSION_DENIED"


async def test_the_incarnation_of_another_team_cannot_be_taken_over(teams: TeamsKernel) -> None:
    """V5: an incarnation is no secret, so it proves nothing. It is a name within one host: each has its own of it."""
    b, run_id, key = await _running(teams)
    a = await (await teams.team("teama", incarnation=b.incarnation)).attach()
    assert [session.hello.host for session in teams.sessions.of_host("teamb")] == ["teamb"]
    assert (await a.report(key, started(), succeeded())).status is AckStatus.FENCED
    await a.introduce([job("a.job")])
    await b.introduce([job("b.job"), job("b.more")])
    await a.leave()
    await b.report(key, started(), succeeded())
    await teams.reaches(run_id, RunState.SUCCEEDED)
    again = await teams.run("b.more")
    await b.report((await b.order(2)).attempt_key, started(), succeeded())
    await teams.reaches(again, RunState.SUCCEEDED)


async def test_an_incarnation_taken_while_the_kernel_restarts_locks_nobody_out(teams: TeamsKernel) -> None:
    """A kernel that starts knows no idle instance. Whoever says its name first does not keep it out."""
    b = await (await teams.team("teamb")).attach()
    await b.introduce([job("b.job")])
    await teams.restart()
    a = await (await teams.team("teama", incarnation=b.incarnation)).attach(ended=[b.incarnation])
    back = await (await teams.team("teamb", incarnation=b.incarnation)).attach()
    assert teams.sessions.hosts() == ["teama", "teamb"]
    await back.introduce([job("b.job")])
    run_id = await teams.run("b.job")
    await back.report((await back.order()).attempt_key, started(), succeeded())
    await teams.reaches(run_id, RunState.SUCCEEDED)
    await a.leave()


async def test_instances_that_attached_at_the_owners_door_are_the_owners_to_speak_for(teams: TeamsKernel) -> None:
    """The owner's hosts prove no name. A team that says the incarnation of one of them changes nothing for it."""
    a = await (await teams.team("teama", incarnation="incarnation-own")).attach()
    own = await (await teams.of_owner("own", incarnation=a.incarnation)).attach()
    await own.introduce([job("own.job")])
    run_id = await teams.run("own.job")
    await own.report((await own.order()).attempt_key, started(), succeeded())
    await teams.reaches(run_id, RunState.SUCCEEDED)
    await own.leave()
    await a.leave()


async def test_a_report_on_an_attempt_of_another_team_changes_nothing(teams: TeamsKernel) -> None:
    """V5, A5: neither with its own incarnation nor with the other's, neither attached nor without a session."""
    b, run_id, key = await _running(teams)
    a = await teams.team("teama")
    before = await _content(teams)
    for attached in (False, True):
        if attached:
            await a.attach()
            before = await _content(teams)
        for incarnation in (a.incarnation, b.incarnation):
            own = attached and incarnation == a.incarnation
            ack = await (a.report if own else a.forge)(key, started(), succeeded(), incarnation=incarnation)
            assert (ack.status, ack.detail) == (AckStatus.FENCED, "no such attempt is open")
    assert await _content(teams) == before
    assert (await b.report(key, started(), succeeded())).status is AckStatus.OK
    await teams.reaches(run_id, RunState.SUCCEEDED)


async def test_after_a_restart_of_the_kernel_an_attempt_is_still_its_hosts(teams: TeamsKernel) -> None:
    """The stored host name of the attempt speaks for it, before its host is back and after the attempt has ended."""
    b, run_id, key = await _running(teams)
    incarnation = b.incarnation
    await teams.restart()
    a = await teams.team("teama")
    before = await _content(teams)
    ack = await a.forge(key, started(), succeeded(), incarnation=incarnation)
    assert (ack.status, ack.detail) == (AckStatus.FENCED, "no such attempt is open")
    assert await _content(teams) == before
    a.incarnation = incarnation
    await a.attach(held=[InventoryLine(attempt_key=key)])
    assert [verdict.action for verdict in a.verdicts] == [VerdictAction.KILL]
    assert (await teams.detail(run_id)).run.state == RunState.RUNNING
    held = [InventoryLine(attempt_key=key)]
    again = await (await teams.team("teamb", incarnation=incarnation)).attach(held=held)
    assert [verdict.action for verdict in again.verdicts] == [VerdictAction.KEEP]
    await again.report(key, started(), succeeded())
    await teams.reaches(run_id, RunState.SUCCEEDED)
    await teams.restart()
    before = await _content(teams)
    a = await teams.team("teama")
    ack = await a.forge(key, succeeded(), first_seq=3, incarnation=incarnation)
    assert (ack.status, ack.detail) == (AckStatus.FENCED, "no such attempt is open")
    assert await _content(teams) == before


async def test_a_late_result_is_taken_from_the_host_of_the_attempt_only(teams: TeamsKernel) -> None:
    """Of a LOST attempt a late result becomes an event; a forged one becomes nothing."""
    b, run_id, key = await _running(teams)
    await b.leave()
    real = teams.engine._state
    real.settings = type(real.settings)(lease_seconds=0.01, grace_seconds=0.01, grace_margin_seconds=0.0)
    await teams.reaches(run_id, RunState.FAILED)
    await teams.restart()
    before = await _content(teams)
    a = await teams.team("teama", incarnation=b.incarnation)
    forged = await a.forge(key, started(), succeeded(b'{"forged": true}'), incarnation=b.incarnation)
    assert (forged.status, forged.detail) == (AckStatus.FENCED, "no such attempt is open")
    assert await _content(teams) == before
    held = [InventoryLine(attempt_key=key, ended=True)]
    await a.attach(held=held)
    assert [verdict.action for verdict in a.verdicts] == [VerdictAction.FORGET]
    await a.leave()


async def test_another_teams_ended_incarnations_are_not_believed(teams: TeamsKernel) -> None:
    """V5: the word of one team neither fails the runs of another nor ends its sessions."""
    b, run_id, key = await _running(teams)
    a = await (await teams.team("teama")).attach(ended=[b.incarnation])
    assert (await teams.detail(run_id)).run.state == RunState.RUNNING
    assert (await b.report(key, started(), succeeded())).status is AckStatus.OK
    await teams.reaches(run_id, RunState.SUCCEEDED)
    await a.leave()


@pytest.mark.parametrize(
    ("fields", "believed"),
    [({}, True), ({"machine": "another"}, False)],
    ids=["same machine", "other machine"],
)
async def test_ended_incarnations_count_on_their_own_machine(
    teams: TeamsKernel, fields: dict[str, str], believed: bool
) -> None:
    """V5: a process can prove the end of another on its own machine only."""
    b, run_id, _ = await _running(teams)
    await b.leave()
    later = await teams.team("teamb", incarnation="incarnation-later", **fields)
    await later.attach(ended=[b.incarnation])
    assert ((await teams.detail(run_id)).run.state == RunState.FAILED) is believed


async def test_ended_incarnations_count_for_one_principal(teams: TeamsKernel) -> None:
    """A host at the owner's socket and one with a certificate are two, even under one name."""
    b, run_id, _ = await _running(teams)
    await (await teams.of_owner("teamb", incarnation="incarnation-local")).attach(ended=[b.incarnation])
    assert (await teams.detail(run_id)).run.state == RunState.RUNNING


async def test_after_a_restart_of_both_the_own_ended_incarnations_are_believed(teams: TeamsKernel) -> None:
    """Kernel and host die together: the new host's word ends the wait for the old one at once."""
    b, run_id, _ = await _running(teams)
    await teams.restart()
    a = await (await teams.team("teama")).attach(ended=[b.incarnation])
    assert (await teams.detail(run_id)).run.state == RunState.RUNNING
    await (await teams.team("teamb", incarnation="incarnation-later")).attach(ended=[b.incarnation])
    await teams.reaches(run_id, RunState.FAILED)
    await a.leave()


async def test_a_manifest_is_introduced_for_ones_own_instances_only(teams: TeamsKernel) -> None:
    """V2: no team can bring jobs under another team's name: not through its instance, not by the manifest's name."""
    b, _, _ = await _running(teams)
    a = await (await teams.team("teama")).attach()
    before = await _content(teams)
    evil = [job("b.job", callable="os:system")]
    assert await refusal(a.introduce(evil, host="teamb", incarnation=b.incarnation)) == "STALE_EPOCH"
    assert await refusal(a.introduce(evil, host="teamb")) == "BAD_REQUEST"
    await teams.audited("IntroduceManifest", "STALE_EPOCH", "host:teama")
    assert await _content(teams) == before
    known = teams.catalogue.job("b.job")
    assert known is not None
    assert known.definition is not None
    assert known.definition.steps[0].callable == "m:f"


async def test_the_manifests_of_one_host_keep_no_other_waiting(teams: TeamsKernel) -> None:
    """V11: they are opened one after the other. With all threads at work on them, others would wait for minutes."""
    a, b = await (await teams.team("teama")).attach(), await (await teams.team("teamb")).attach()
    body = manifest("teamb", [], padding=[{str(number): [number]} for number in range(100_000)])
    request = gateway.IntroduceManifestRequest(
        incarnation=a.incarnation,
        digest="sha256:" + hashlib.sha256(body).hexdigest(),
        manifest_json_zlib=zlib.compress(body),
    )
    calls = [asyncio.ensure_future(refusal(a.stub.IntroduceManifest(request, timeout=60))) for _ in range(24)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    await b.introduce([job("b.job")])
    assert sum(call.done() for call in calls) < 12
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)


async def test_a_withdrawn_certificate_ends_its_session(teams: TeamsKernel) -> None:
    """The session of a revoked or replaced certificate ends within seconds; its later calls are refused."""
    b, _, key = await _running(teams)
    teams.principals["teamb"] = ANYONE
    assert await b.ended() == "UNAUTHENTICATED"
    assert await refusal(b.report(key, started())) == "UNAUTHENTICATED"
    assert await refusal(b.introduce([job("b.job")])) == "UNAUTHENTICATED"
    teams.principals["teamb"] = host_principal("teamb")
    await b.attach()


async def test_a_withdrawn_certificate_ends_a_call_that_waits(teams: TeamsKernel) -> None:
    """A manifest can wait 30 s for its turn. Then it would claim job ids for a host that was thrown out."""
    b = await (await teams.team("teamb")).attach()
    async with teams.catalogue._changing:
        call = asyncio.ensure_future(refusal(b.introduce([job("b.job")])))
        await asyncio.wait((call,), timeout=0.5)
        assert not call.done()
        teams.principals["teamb"] = ANYONE
        assert await call == "UNAUTHENTICATED"
    assert teams.catalogue.job("b.job") is None


async def test_what_was_refused_is_not_kept_in_memory(teams: TeamsKernel) -> None:
    """An error and the frame that waited for it must not hold each other: the kernel collects such garbage rarely."""
    a = await (await teams.team("teama")).attach()
    gc.collect()
    gc.disable()
    try:
        assert await refusal(a.introduce([], host="teamb")) == "BAD_REQUEST"
        a.say(gateway.AttachRequest(heartbeat=gateway.Heartbeat(workers=[gateway.HostWorker()] * 2001)))
        assert await a.ended() == "BAD_REQUEST"
        grants = Grant.parse("trigger *"), Grant.parse("read *")
        user = Principal(kind=PrincipalKind.USER, name="ann", grants=grants)
        calls: Any = KernelServiceStub(await teams.door("user", user))
        stream = calls.StreamTriggers(timeout=PATIENCE)
        await stream.write(kernel.StreamTriggersRequest(items=[kernel.StreamTriggersRequest.Item()] * 1001))
        assert await refusal(stream.read()) == "BAD_REQUEST"
        assert await refusal(calls.TriggerRun(kernel.TriggerRunRequest(job_id="-"), timeout=PATIENCE)) == "BAD_REQUEST"
        async with asyncio.timeout(PATIENCE):
            while [each for each in gc.get_objects() if isinstance(each, BadRequest)]:
                await asyncio.sleep(0.01)
    finally:
        gc.enable()


async def test_at_the_owners_socket_a_host_is_what_it_says(teams: TeamsKernel) -> None:
    """There is one owner. An incarnation is a name within the host it attached with."""
    first = await (await teams.of_owner("one")).attach()
    await first.introduce([job("one.job")])
    second = await (await teams.of_owner("two")).attach()
    await second.introduce([job("two.job")])
    run_id = await teams.run("one.job")
    key = (await first.order()).attempt_key
    second.incarnation = first.incarnation
    await second.attach()
    assert teams.sessions.hosts() == ["one", "two"]
    await first.report(key, started(), succeeded())
    await teams.reaches(run_id, RunState.SUCCEEDED)


async def test_a_hosts_certificate_gives_no_call_of_clients(teams: TeamsKernel) -> None:
    """A8: it can neither start, see nor stop anything, its own jobs included."""
    b, run_id, _ = await _running(teams)
    calls = (
        b.client.TriggerRun(kernel.TriggerRunRequest(job_id="b.job")),
        b.client.CancelRun(kernel.CancelRunRequest(run_id=run_id)),
        b.client.GetRun(kernel.GetRunRequest(run_id=run_id)),
        b.client.ListJobs(kernel.ListJobsRequest()),
        b.client.ForgetHost(kernel.ForgetHostRequest(host="teama")),
    )
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
