"""Join strings and certificates of single instances: principals of their own, which end and are forgotten soon."""

from __future__ import annotations

import pytest
from credential_store import DAY, SERIAL, Kernel

from nomaflow_kernel.access.credential_ends import credentials_meant, hosts_shut_out
from nomaflow_kernel.access.principals import ANYONE, NotAuthenticated
from nomaflow_kernel.access.token_orders import TokenOrder
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.history.access_records import CertificateRecord, TokenRecord

ORDER = TokenOrder(kind="host", name="teamb", joins=True, instance_seconds=3600)


async def _joined(kernel: Kernel, number: int, order: TokenOrder = ORDER) -> tuple[TokenRecord, str]:
    """Make a join string and use it; return its token and the serial of the certificate."""
    join, secret = await kernel.credentials.create(order, created_by="slurm")
    await kernel.credentials.use_join(secret)
    now, serial = kernel.clock.now_us(), f"{number}{SERIAL}"
    seconds = order.instance_seconds or 30 * DAY
    await kernel.credentials.keep_certificate(
        CertificateRecord(
            serial=serial, host="teamb", issued_at_us=now, expires_at_us=now + seconds * 1_000_000,
            issued_to="ipv4:127.0.0.1:1", token_id=join.token_id,
        )
    )  # fmt: skip
    with pytest.raises(NotAuthenticated):
        await kernel.credentials.use_join(secret)
    return join, serial


def _of(kernel: Kernel, serial: str) -> str:
    return str(kernel.credentials.of_certificate(host="teamb", serial=serial))


async def test_each_instance_is_a_principal_of_its_own(kernel: Kernel) -> None:
    """Its name is that of its host and its join string's id, also after a restart; a host's own name is as it was."""
    one, first = await _joined(kernel, 1)
    two, second = await _joined(kernel, 2)
    _, third = await _joined(kernel, 3, TokenOrder(kind="host", name="teamb", joins=True))
    for _ in range(2):
        assert _of(kernel, first) == f"host:teamb/{one.token_id}"
        assert _of(kernel, second) == f"host:teamb/{two.token_id}"
        assert _of(kernel, third) == "host:teamb"
        await kernel.again()


@pytest.mark.parametrize("by", ["{id}", "host:teamb/{id}"])
async def test_one_instance_is_shut_out_alone(kernel: Kernel, by: str) -> None:
    """By the name that it has in lists and in the audit, or by its join string; the others go on."""
    one, first = await _joined(kernel, 1)
    _, second = await _joined(kernel, 2)
    _, third = await _joined(kernel, 3, TokenOrder(kind="host", name="teamb", joins=True))
    await kernel.credentials.revoke(by.format(id=one.token_id))
    assert _of(kernel, first) == str(ANYONE)
    assert str(ANYONE) not in (_of(kernel, second), _of(kernel, third))


async def test_who_shuts_a_host_out_shuts_out_its_instances(kernel: Kernel) -> None:
    """Its instances' credentials end with it, and so do join strings that are not used yet."""
    _, first = await _joined(kernel, 1)
    _, waiting = await kernel.credentials.create(ORDER, created_by="slurm")
    await kernel.credentials.revoke("host:teamb")
    assert _of(kernel, first) == str(ANYONE)
    with pytest.raises(NotAuthenticated):
        await kernel.credentials.use_join(waiting)


async def test_a_host_is_shut_out_once_the_last_good_certificate_is_revoked(kernel: Kernel) -> None:
    """One that an instance has keeps the host in, and its withdrawal shuts that instance out alone."""

    def shut_out(target: str) -> set[str]:
        certificates = kernel.credentials.certificates()
        _, withdrawn = credentials_meant(target, (), certificates)
        return hosts_shut_out(withdrawn, certificates, now_us=kernel.clock.now_us())

    _, first = await _joined(kernel, 1, TokenOrder(kind="host", name="teamb", joins=True))
    _, instance = await _joined(kernel, 2)
    assert shut_out(first) == set()  # it is not revoked
    await kernel.credentials.revoke(first)
    assert shut_out(first) == set()
    kernel.clock.pass_seconds(3601)  # that of the instance has ended
    assert shut_out(first) == {"teamb"}
    await kernel.credentials.revoke(instance)
    assert shut_out(instance) == set()
    await _joined(kernel, 3, TokenOrder(kind="host", name="teamb", joins=True))
    assert shut_out("host:teamb") == set()
    await kernel.credentials.revoke("host:teamb")
    assert shut_out("host:teamb") == {"teamb"}


async def test_what_ended_instances_had_is_forgotten_after_a_day(kernel: Kernel) -> None:
    """Memory, store and the file of withdrawals do not grow with the number of launches."""
    withdrawn = kernel.directory / "withdrawn"
    for number in range(3):
        await _joined(kernel, number)
    kept, serial = await _joined(kernel, 3, TokenOrder(kind="host", name="teamb", joins=True))
    assert len(withdrawn.read_text().split("\n\n")) == 4
    kernel.clock.pass_seconds(23 * 3600)
    assert await kernel.credentials.prune() == 0
    kernel.clock.pass_seconds(3 * 3600)
    assert await kernel.credentials.prune() == 6
    credentials = await kernel.again()
    assert [each.token_id for each in credentials.tokens()] == [kept.token_id]
    assert [each.serial for each in credentials.certificates()] == [serial]
    assert withdrawn.read_text() == ""


async def test_a_launch_costs_the_same_however_many_there_were(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever may launch instances of one host could keep the kernel busy: 0.1 s for each, after an hour."""
    monkeypatch.setattr(kernel.credentials, "tokens", lambda: pytest.fail("it looks at every token"))
    await kernel.credentials.create(ORDER, created_by="slurm")


async def test_a_life_of_more_than_400_days_is_refused(kernel: Kernel) -> None:
    """The bound is named."""
    order = TokenOrder(kind="host", name="teamb", joins=True, instance_seconds=401 * DAY)
    with pytest.raises(BadRequest, match="instance_seconds is 34646400, expected at most 34560000"):
        await kernel.credentials.create(order, created_by="slurm")
