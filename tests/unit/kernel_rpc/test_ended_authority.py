"""The kernel's own authority after its end, or with a clock that was set beyond that."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rpc_world import World

from doors import signing_request
from nomaflow_api.join_string import certificates_in
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_kernel.access.principals import OWNER, Caller, Principal, PrincipalKind
from nomaflow_kernel.access.token_orders import TokenOrder
from nomaflow_kernel.domain.errors import BadRequest, KernelError
from nomaflow_kernel.network import door_certificates
from nomaflow_kernel.network.authority import Authority
from nomaflow_kernel.network.certificates import CertificateFiles
from nomaflow_kernel.network.door_certificates import DoorCertificates
from nomaflow_kernel.rpc.access_calls import AccessCalls
from nomaflow_kernel.rpc.enrolment import Enrolment
from waiting import eventually

CALLER = Caller(principal=OWNER, peer="here")


class LateClock:
    """A clock that is ahead of the time."""

    def __init__(self) -> None:
        self.days = 0.0

    def __call__(self) -> float:
        return time.time() + self.days * 86_400


@pytest.fixture
def clock() -> LateClock:
    return LateClock()


@pytest.fixture
def certificates(tmp_path: Path, clock: LateClock) -> DoorCertificates:
    authority = Authority(tmp_path / "pki", now=clock)
    return DoorCertificates(authority=authority, own=CertificateFiles(cert=authority.cert, key=authority.key))


@pytest.mark.parametrize("days", [3_653, 3_660], ids=["within the two days of backdating", "later"])
async def test_an_ended_authority_is_replaced_and_not_renewed(
    world: World, certificates: DoorCertificates, clock: LateClock, days: int
) -> None:
    """The refusal names the way out. The ended one vouches for nothing, and nobody trusts it."""
    unused: Any = None
    calls = AccessCalls(replace(world.parts, certificates=certificates), unused)
    clock.days = days
    ended = certificates.authority.fingerprint
    with pytest.raises(BadRequest, match=r"ended on 20\d\d-.*run `nomaflow pki replace`") as caught:
        await calls.renew_authority(access.RenewAuthorityRequest(), CALLER)
    assert list(caught.value.fields) == ["replace"]
    answer = await calls.renew_authority(access.RenewAuthorityRequest(replace=True), CALLER)
    assert answer.authority.fingerprint != ended
    assert len(certificates_in(answer.authority.authorities_pem)) == 1
    assert len(certificates_in(certificates.authority.cert.read_text())) == 1


@pytest.mark.parametrize("days", [3_653, 3_660], ids=["within the two days of backdating", "later"])
async def test_an_ended_authority_signs_for_no_host_and_uses_up_no_join_string(
    world: World, certificates: DoorCertificates, clock: LateClock, days: int
) -> None:
    """The refusal names the way out to those with a good secret or certificate, and to nobody else."""
    credentials = world.parts.credentials
    enrolment = Enrolment(replace(world.parts, certificates=certificates))
    join, secret = await credentials.create(TokenOrder(kind="host", name="team", joins=True), created_by="owner")
    host = Caller(principal=Principal(kind=PrincipalKind.HOST, name="team", credential="1"), peer="there")
    _, csr = signing_request()
    clock.days = days
    told = r"ended on 20\d\d-.*run `nomaflow pki replace`"
    with pytest.raises(BadRequest, match=told):
        await enrolment.enrol(access.EnrolRequest(secret=secret, csr_pem=csr), host)
    assert credentials.join_of(secret) == join
    with pytest.raises(BadRequest, match=told):
        await enrolment.renew_certificate(gateway.RenewCertificateRequest(csr_pem=csr), host)
    with pytest.raises(KernelError, match="this join string cannot be used"):
        await enrolment.enrol(access.EnrolRequest(secret="guessed", csr_pem=csr), host)


async def test_the_pair_is_kept_fresh_again_once_the_clock_is_right(
    certificates: DoorCertificates, clock: LateClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A look that fails is not the last one."""
    monkeypatch.setattr(door_certificates, "_LOOK_SECONDS", 0.01)
    clock.days = 3_660
    keeping = asyncio.create_task(certificates.keep_fresh())
    await eventually(lambda: "could not be renewed, trying again in an hour: this kernel's authority" in caplog.text)
    certificates.authority.cert.unlink()
    clock.days = 0
    await eventually(certificates.authority.cert.exists)
    keeping.cancel()
