"""Job ids that an administrator reserves for a host, before it has ever come."""

from __future__ import annotations

import pytest
from credential_store import DAY, Kernel

from nomaflow_kernel.access.token_orders import TokenOrder
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.history.access_records import CertificateRecord


def order(host: str, *ids: str) -> TokenOrder:
    """Return an order of a join string."""
    return TokenOrder(kind="host", name=host, joins=True, ids=ids)


def certificate(kernel: Kernel, serial: str, token_id: str = "") -> CertificateRecord:
    """Return a certificate of team b for 30 days."""
    now = kernel.clock.now_us()
    return CertificateRecord(
        serial=serial, host="teamb", issued_at_us=now, expires_at_us=now + 30 * DAY * 1_000_000, issued_to="",
        token_id=token_id,
    )  # fmt: skip


async def test_ids_are_reserved_from_the_join_string_to_the_last_certificate_of_its_line(kernel: Kernel) -> None:
    """The reservation goes from the string to its certificate, to renewals, and over restarts; it ends with them."""
    credentials = kernel.credentials
    join, secret = await credentials.create(order("teamb", "b.*", "extra"), created_by="owner")
    reserved = credentials.reserved.host_of
    assert [reserved(each) for each in ("b.one", "extra", "b", "extra.more", "a.one")] == ["teamb", "teamb", "", "", ""]
    await credentials.keep_certificate(certificate(kernel, "a1", join.token_id))
    await credentials.use_join(secret)
    kernel.clock.pass_seconds(20 * DAY)
    await credentials.keep_certificate(certificate(kernel, "a2"), renews="a1")
    kernel.clock.pass_seconds(20 * DAY)
    assert credentials.reserved.host_of("b.one") == "teamb"
    credentials = await kernel.again()
    assert [each.ids for each in credentials.certificates()] == [("b.*", "extra")] * 2
    assert credentials.reserved.host_of("b.one") == "teamb"
    await credentials.revoke("a2")
    assert credentials.reserved.host_of("b.one") == ""


async def test_no_two_hosts_have_reservations_that_overlap(kernel: Kernel) -> None:
    """The refusal names the other; one host may say its own again, and what has ended is in nobody's way."""
    credentials = kernel.credentials
    first, _ = await credentials.create(order("teamb", "b.*"), created_by="owner")
    for ids in ("b.one", "b.x*", "b*", "b.*"):
        with pytest.raises(BadRequest, match="is reserved for host 'teamb'"):
            await credentials.create(order("teama", ids), created_by="owner")
    await credentials.create(order("teamb", "b.one"), created_by="owner")
    await credentials.create(order("teama", "a.*", "b"), created_by="owner")
    await credentials.revoke("host:teamb")
    await credentials.create(order("teama", "b.*"), created_by="owner")
    assert first.ids == ("b.*",)


@pytest.mark.parametrize("ids", [("*",), ("a b",), ("",), ("a**",), ("x" * 300,), tuple(f"a{n}" for n in range(101))])
async def test_what_is_no_job_id_is_not_reserved(kernel: Kernel, ids: tuple[str, ...]) -> None:
    """An entry is the id of a job or the beginning of one."""
    with pytest.raises(BadRequest, match=r"^ids has"):
        await kernel.credentials.create(order("teamb", *ids), created_by="owner")
    user = TokenOrder(kind="user", name="al", roles=("viewer",), ids=("a",))
    with pytest.raises(BadRequest, match="for hosts only"):
        await kernel.credentials.create(user, created_by="owner")
