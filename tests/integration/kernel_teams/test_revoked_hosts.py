"""The jobs of a host whose access was revoked go off their schedules, and come back with the host."""

from __future__ import annotations

from typing import Any

import grpc
from teams_kernel import Team, TeamsKernel, job, reason_of, refusal

from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from nomaflow_kernel.access.principals import OWNER
from nomaflow_kernel.history.access_records import CertificateRecord

JOBS = [job("a.own", schedule="0 2 * * *"), job("a.aimed", host="teamb", schedule="0 2 * * *")]


async def _let_in(teams: TeamsKernel, serial: str, *, days: int = 30) -> None:
    """Give the host teama a certificate."""
    now = teams.clock.now_us()
    await teams.credentials.keep_certificate(
        CertificateRecord(
            serial=serial, host="teama", issued_at_us=now, expires_at_us=now + days * 86_400 * 1_000_000,
            issued_to="ipv4:127.0.0.1:1", token_id="",
        )
    )  # fmt: skip


async def _revoke(teams: TeamsKernel, target: str) -> None:
    calls: Any = AccessServiceStub(await teams.door("owner", OWNER))
    await calls.RevokeTokens(access.RevokeTokensRequest(target=target), timeout=10)


async def _two(teams: TeamsKernel, a: Team) -> None:
    """Attach teama with its jobs, and teamb, which accepts them."""
    b = await (await teams.team("teamb")).attach()
    await b.introduce([job("b.own", schedule="0 2 * * *")], accept_jobs_from=["teama"])
    await a.attach()
    await a.introduce(JOBS, version=7)


async def _run(teams: TeamsKernel, job_id: str) -> str:
    """Start a job; return why that is refused, empty if it is not."""
    try:
        await teams.run(job_id)
    except grpc.aio.AioRpcError as error:
        return f"{reason_of(error)}: {error.details()}"
    return ""


async def _fires(teams: TeamsKernel) -> dict[str, str]:
    """Return why each job does not fire, empty for one that does."""
    found = {}
    for job_id in ("a.own", "a.aimed", "b.own"):
        shown = (await teams.client.GetJob(kernel.GetJobRequest(job_id=job_id), timeout=10)).job
        assert shown.valid == bool(shown.next_fires) == (not shown.problems)
        found[job_id] = shown.problems[0].message if shown.problems else ""
    return found


REVOKED = "the access of host 'teama' was revoked"
OFF = {"a.own": REVOKED, "a.aimed": REVOKED, "b.own": ""}
ON = dict.fromkeys(OFF, "")


async def test_the_jobs_of_a_revoked_host_go_off_until_it_attaches_again(teams: TeamsKernel) -> None:
    """Only the last credential counts. Neither a new start nor an introduction under way brings the jobs back."""
    for serial in ("a1", "a2"):
        await _let_in(teams, serial)
    a = await teams.team("teama")
    await _two(teams, a)
    await _revoke(teams, "a1")
    assert await _fires(teams) == ON
    await _revoke(teams, "host:teama")
    assert await refusal(a.introduce(JOBS, version=8)) == "STALE_EPOCH"  # the one whose session is over
    assert await a.ended() == "UNAUTHENTICATED"
    for _ in range(2):
        assert await _fires(teams) == OFF
        for job_id in ("a.own", "a.aimed"):
            assert (
                await _run(teams, job_id)
                == f"JOB_DISABLED: job {job_id!r} cannot run: {REVOKED}; see `nomaflow job {job_id}`"
            )
        await teams.restart()
    again = await (await teams.team("teama")).attach(digest=a.digest)
    assert again.wanted
    await again.introduce(JOBS, version=6, explicit=False)
    assert await _fires(teams) == ON
    await teams.restart()
    assert await _fires(teams) == ON


async def test_a_host_at_the_owners_door_needs_no_credential(teams: TeamsKernel) -> None:
    """A host on the Unix socket keeps its jobs enabled, even if its certificate for TCP is revoked."""
    await _let_in(teams, "a1")
    a = await teams.of_owner("teama")
    await _two(teams, a)
    await _revoke(teams, "a1")
    assert await _fires(teams) == ON
    await a.leave()
    while teams.sessions.of_host("teama"):
        await teams.sessions.changed()
    await _revoke(teams, "a1")
    assert await _fires(teams) == OFF
    await a.attach()
    assert a.wanted
    await a.introduce(JOBS, version=7, explicit=False)
    assert await _fires(teams) == ON


async def test_a_forgotten_host_frees_the_ids_that_were_kept(teams: TeamsKernel) -> None:
    """Until then they are the revoked host's."""
    await _let_in(teams, "a1")
    a = await teams.team("teama")
    await _two(teams, a)
    await _revoke(teams, "a1")
    assert await a.ended() == "UNAUTHENTICATED"
    answer = await teams.client.ForgetHost(kernel.ForgetHostRequest(host="teama"), timeout=10)
    assert list(answer.released_job_ids) == ["a.aimed", "a.own"]
