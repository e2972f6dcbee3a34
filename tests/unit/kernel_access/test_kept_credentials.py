"""Tokens, join strings and certificates of a kernel, on a real store."""

from __future__ import annotations

import hashlib
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from credential_store import CI, DAY, HOST, SERIAL, Kernel

from nomaflow_kernel.access.credentials import Credentials
from nomaflow_kernel.access.principals import ANYONE, NotAuthenticated, Principal, PrincipalKind
from nomaflow_kernel.access.token_orders import TokenOrder, UnknownCredential
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.history.access_records import CertificateRecord, TokenRecord


def of(credentials: Credentials, secret: str) -> Principal:
    """Return whom a token stands for."""
    return credentials.of_token(f"Bearer {secret}")


def certificate(kernel: Kernel, *, serial: str = SERIAL, host: str = "teamb", token_id: str = "") -> CertificateRecord:
    """Return a certificate for 30 days."""
    now = kernel.clock.now_us()
    return CertificateRecord(
        serial=serial,
        host=host,
        issued_at_us=now,
        expires_at_us=now + 30 * DAY * 1_000_000,
        issued_to="ipv4:127.0.0.1:1",
        token_id=token_id,
    )


async def test_a_token_names_its_principal_and_only_its_hash_is_stored(kernel: Kernel) -> None:
    """A service's token carries 256 random bits and the grants of its roles; the database holds no secret."""
    record, secret = await kernel.credentials.create(CI, created_by="owner")
    principal = of(kernel.credentials, secret)
    assert (principal.kind, str(principal), principal.credential) == (PrincipalKind.SERVICE, "ci", record.token_id)
    assert list(map(str, principal.grants)) == ["read *", "trigger job:nightly"]
    assert secret.startswith("nft1.")
    assert len(secret) == 48
    assert record.token_id.startswith("tok_")
    assert len(record.token_id) == 16
    assert record.secret_hash == hashlib.sha256(secret.encode()).hexdigest()
    assert record.expires_at_us - record.created_at_us == 90 * DAY * 1_000_000
    await kernel.stop()
    files = b"".join(path.read_bytes() for path in kernel.directory.iterdir())
    assert secret.encode() not in files
    assert secret.removeprefix("nft1.").encode() not in files
    await kernel.start()


async def test_whatever_is_not_good_is_nobody(kernel: Kernel) -> None:
    """A1: no token, garbage, an unknown, an expired and a revoked one are the same: nobody."""
    credentials = kernel.credentials
    _, expired = await credentials.create(
        TokenOrder(kind="user", name="al", roles=("viewer",), lifetime_seconds=60), created_by="owner"
    )
    withdrawn, revoked = await credentials.create(CI, created_by="owner")
    _, join = await credentials.create(HOST, created_by="owner")
    assert of(credentials, expired) is not ANYONE
    assert of(credentials, revoked) is not ANYONE
    await credentials.revoke(withdrawn.token_id)
    kernel.clock.pass_seconds(61)
    for shown in (
        "", "Bearer", "Bearer ", "Basic eA==", "nonsense", "Bearer é", "Bearer " + "x" * 10_000,
        "Bearer nft1." + "A" * 43, f"Bearer {expired}", f"Bearer {revoked}", f"Bearer {revoked}x", f"Bearer {revoked} ",
        expired, f"Bearer {join}", f"Bearer nft1.{join}", f"Bearer {withdrawn.secret_hash}",
        f"Bearer {withdrawn.token_id}",
    ):  # fmt: skip
        assert credentials.of_token(shown) is ANYONE, shown


async def test_credentials_outlive_a_restart(kernel: Kernel) -> None:
    """Good ones stay good, withdrawn ones withdrawn, and uses are counted on."""
    credentials = kernel.credentials
    _, kept = await credentials.create(CI, created_by="owner")
    other, gone = await credentials.create(TokenOrder(kind="user", name="bo", roles=("admin",)), created_by="owner")
    _, join = await credentials.create(
        TokenOrder(kind="host", name="teamb", joins=True, uses=2), created_by="alice (for bob)"
    )
    await credentials.use_join(join)
    await credentials.keep_certificate(certificate(kernel))
    await credentials.revoke("bo")
    credentials = await kernel.again()
    assert str(of(credentials, kept)) == "ci"
    assert of(credentials, gone) is ANYONE
    assert str(credentials.of_certificate(host="teamb", serial=SERIAL.upper())) == "host:teamb"
    assert (await credentials.use_join(join)).uses_left == 0
    with pytest.raises(NotAuthenticated):
        await credentials.use_join(join)
    assert [each.created_by for each in credentials.tokens()] == ["owner", "owner", "alice (for bob)"]
    assert other.token_id in [each.token_id for each in credentials.tokens() if each.revoked_at_us]


async def test_a_join_string_is_used_once_within_an_hour(kernel: Kernel) -> None:
    """Unknown, used, expired and revoked strings get the same refusal as a bad token."""
    credentials = kernel.credentials
    first, used = await credentials.create(HOST, created_by="owner")
    _, late = await credentials.create(HOST, created_by="owner")
    revoked, withdrawn = await credentials.create(HOST, created_by="owner")
    _, token = await credentials.create(CI, created_by="owner")
    assert (first.expires_at_us - first.created_at_us, first.uses_left) == (3600 * 1_000_000, 1)
    assert (await credentials.use_join(used)).name == "teamb"
    await credentials.revoke(revoked.token_id)
    texts = set()
    for secret in (used, withdrawn, token, "", "x" * 43):
        with pytest.raises(NotAuthenticated) as caught:
            await credentials.use_join(secret)
        texts.add(caught.value.message)
    kernel.clock.pass_seconds(3601)
    with pytest.raises(NotAuthenticated) as caught:
        await credentials.use_join(late)
    assert texts == {caught.value.message}


async def test_a_users_join_string_becomes_a_token_of_the_same_grants(kernel: Kernel) -> None:
    """`nomaflow login` exchanges the secret of a string for a token for 90 days."""
    credentials = kernel.credentials
    order = TokenOrder(kind="user", name="alice", joins=True, roles=("operator job:a.*",))
    _, secret = await credentials.create(order, created_by="owner")
    record, token = await credentials.exchange(await credentials.use_join(secret))
    principal = of(credentials, token)
    assert (record.joins, str(principal), principal.kind) == (False, "alice", PrincipalKind.USER)
    assert "cancel job:a.*" in map(str, principal.grants)
    assert record.expires_at_us - record.created_at_us == 90 * DAY * 1_000_000


async def test_a_withdrawal_names_a_token_a_certificate_a_principal_or_a_host(kernel: Kernel) -> None:
    """It returns what was good until then; a second one returns nothing, and an unknown name is an error."""
    credentials = kernel.credentials
    host_token, join = await credentials.create(HOST, created_by="owner")
    user_token, secret = await credentials.create(
        TokenOrder(kind="user", name="teamb", roles=("viewer",)), created_by="owner"
    )
    await credentials.keep_certificate(certificate(kernel))
    await credentials.keep_certificate(certificate(kernel, serial="cd" * 20))
    assert await credentials.revoke(SERIAL.upper()) == ([], [SERIAL])
    assert credentials.of_certificate(host="teamb", serial=SERIAL) is ANYONE
    assert credentials.of_certificate(host="teamb", serial="cd" * 20) is not ANYONE
    assert await credentials.revoke("host:teamb") == ([host_token.token_id], ["cd" * 20])
    assert of(credentials, secret) is not ANYONE  # a user of the host's name is somebody else
    assert credentials.of_certificate(host="teamb", serial="cd" * 20) is ANYONE
    with pytest.raises(NotAuthenticated):
        await credentials.use_join(join)
    assert await credentials.revoke("teamb") == ([user_token.token_id], [])
    assert await credentials.revoke("teamb") == ([], [])
    for unknown in ("nobody", "", "host:", "host:nobody", "tok_", "*"):
        with pytest.raises(UnknownCredential):
            await credentials.revoke(unknown)


@pytest.mark.parametrize("shown", ["0ABC{}", "0abc{}", "00{}"])
async def test_a_serial_is_withdrawn_as_other_programs_print_it(kernel: Kernel, shown: str) -> None:
    """`openssl x509 -serial` prints whole bytes in upper case; the kernel keeps the number alone."""
    rest = "CD" * 19
    serial = shown.format(rest).lower().lstrip("0")
    await kernel.credentials.keep_certificate(certificate(kernel, serial=serial))
    assert await kernel.credentials.revoke(shown.format(rest)) == ([], [serial])
    for unknown in ("0", "00", "abc", "0x" + serial):
        with pytest.raises(UnknownCredential):
            await kernel.credentials.revoke(unknown)


async def test_a_certificate_proves_one_name_until_it_ends(kernel: Kernel) -> None:
    """Another host's serial, an unknown one and an expired one prove nothing."""
    credentials = kernel.credentials
    await credentials.keep_certificate(certificate(kernel))
    assert credentials.of_certificate(host="teama", serial=SERIAL) is ANYONE
    assert credentials.of_certificate(host="teamb", serial="ef" * 20) is ANYONE
    assert credentials.of_certificate(host="teamb", serial=SERIAL).grants == ()
    kernel.clock.pass_seconds(30 * DAY)
    assert credentials.of_certificate(host="teamb", serial=SERIAL) is ANYONE


async def test_what_was_withdrawn_meanwhile_gives_no_certificate(kernel: Kernel) -> None:
    """A host that joins or renews while it is withdrawn gets nothing that outlives the withdrawal."""
    credentials = kernel.credentials
    await credentials.create(HOST, created_by="owner")
    await credentials.keep_certificate(certificate(kernel))
    token_id = credentials.tokens()[0].token_id
    await credentials.revoke("host:teamb")
    with pytest.raises(NotAuthenticated):
        await credentials.keep_certificate(certificate(kernel, serial="1" * 40, token_id=token_id))
    with pytest.raises(NotAuthenticated):
        await credentials.keep_certificate(certificate(kernel, serial="2" * 40), renews=SERIAL)


async def test_a_used_join_string_takes_the_token_that_was_got_with_it(kernel: Kernel) -> None:
    """Whoever had the string may have the token. One that was handed out since, by a rotation, stays."""
    credentials = kernel.credentials
    order = TokenOrder(kind="user", name="alice", joins=True, roles=("viewer",), uses=2)
    join, secret = await credentials.create(order, created_by="owner")
    got, token = await credentials.exchange(await credentials.use_join(secret))
    other, rotated = await credentials.exchange(await credentials.use_join(secret))
    _, handed_out = await credentials.rotate(other.token_id, overlap_seconds=600, created_by="owner")
    credentials = await kernel.again()
    assert await credentials.revoke(join.token_id) == ([join.token_id, got.token_id, other.token_id], [])
    assert [of(credentials, each) for each in (token, rotated)] == [ANYONE, ANYONE]
    assert of(credentials, handed_out) is not ANYONE


async def test_a_call_that_is_repeated_makes_another_token(kernel: Kernel) -> None:
    """No secret is kept to answer with again. The one whose answer was lost is withdrawn alone, by its id."""
    credentials = kernel.credentials
    lost, unknown = await credentials.create(CI, created_by="owner")
    made, secret = await credentials.create(CI, created_by="owner")
    await credentials.revoke(lost.token_id)
    assert of(credentials, unknown) is ANYONE
    assert of(credentials, secret) is not ANYONE
    _, gone = await credentials.rotate(made.token_id, overlap_seconds=0, created_by="owner")
    with pytest.raises(BadRequest, match="no good token has that name"):
        await credentials.rotate(made.token_id, overlap_seconds=0, created_by="owner")
    _, newest = await credentials.rotate(made.name, overlap_seconds=0, created_by="owner")
    assert of(credentials, gone) is ANYONE
    assert of(credentials, newest) is not ANYONE


async def test_a_serial_takes_its_line_and_a_join_string_the_lines_that_began_with_it(kernel: Kernel) -> None:
    """A certificate renews another, in as many steps as there were: whoever had one key may have had the next."""
    credentials = kernel.credentials
    join, _ = await credentials.create(TokenOrder(kind="host", name="teamb", joins=True, uses=2), created_by="owner")
    for line in ("a", "b"):
        await credentials.keep_certificate(certificate(kernel, serial=line * 40, token_id=join.token_id))
        for before, renewed in ((line * 40, f"1{line}"), (f"1{line}", f"2{line}")):
            await credentials.keep_certificate(certificate(kernel, serial=renewed), renews=before)
    credentials = await kernel.again()
    assert await credentials.revoke("1A") == ([], ["a" * 40, "1a", "2a"])
    assert credentials.of_certificate(host="teamb", serial="2a") is ANYONE
    assert credentials.of_certificate(host="teamb", serial="2b") is not ANYONE
    with pytest.raises(NotAuthenticated):
        await credentials.keep_certificate(certificate(kernel, serial="3a"), renews="2a")
    assert await credentials.revoke(join.token_id) == ([join.token_id], ["b" * 40, "1b", "2b"])


async def test_a_string_that_is_withdrawn_while_it_is_used_gives_no_token(kernel: Kernel) -> None:
    """The withdrawal comes between the use and the token that it was to give."""
    order = TokenOrder(kind="user", name="alice", joins=True, roles=("viewer",))
    join, secret = await kernel.credentials.create(order, created_by="owner")
    used = await kernel.credentials.use_join(secret)
    await kernel.credentials.revoke(join.token_id)
    with pytest.raises(NotAuthenticated):
        await kernel.credentials.exchange(used)


async def test_a_restored_store_does_not_bring_back_what_was_withdrawn(kernel: Kernel) -> None:
    """A backup knows a revoked token, a rotated one, a used string and a revoked certificate as good: all stay bad."""
    credentials = kernel.credentials
    _, revoked = await credentials.create(TokenOrder(kind="user", name="al", roles=("admin",)), created_by="owner")
    _, rotated = await credentials.create(CI, created_by="owner")
    _, overlapping = await credentials.create(
        TokenOrder(kind="service", name="cd", roles=("viewer",)), created_by="owner"
    )
    _, kept = await credentials.create(TokenOrder(kind="user", name="bo", roles=("viewer",)), created_by="owner")
    _, join = await credentials.create(HOST, created_by="owner")
    await credentials.keep_certificate(certificate(kernel))
    await kernel.stop()
    shutil.copy(kernel.directory / "kernel.db", kernel.directory / "backup.db")
    credentials = await kernel.start()
    await credentials.revoke("al")
    await credentials.rotate("ci", overlap_seconds=0, created_by="owner")
    await credentials.rotate("cd", overlap_seconds=3600, created_by="owner")
    await credentials.use_join(join)
    await credentials.revoke(SERIAL)
    await kernel.stop()
    for path in kernel.directory.glob("kernel.db*"):
        path.unlink()
    shutil.copy(kernel.directory / "backup.db", kernel.directory / "kernel.db")
    credentials = await kernel.start()
    assert kernel.shut_out == {"teamb"}
    for _ in range(2):
        assert of(credentials, revoked) is ANYONE
        assert of(credentials, rotated) is ANYONE
        assert of(credentials, kept) is not ANYONE
        assert credentials.of_certificate(host="teamb", serial=SERIAL) is ANYONE
        with pytest.raises(NotAuthenticated):
            await credentials.use_join(join)
        assert of(credentials, overlapping) is not ANYONE
        credentials = await kernel.again()
    kernel.clock.pass_seconds(3601)
    assert of(credentials, overlapping) is ANYONE
    assert stat.S_IMODE((kernel.directory / "withdrawn").stat().st_mode) == 0o600


async def test_what_ended_ninety_days_ago_is_forgotten(kernel: Kernel) -> None:
    """A used string, a revoked token and certificates that have expired go; what is good, or ended lately, stays."""
    credentials = kernel.credentials
    join, secret = await credentials.create(HOST, created_by="owner")
    await credentials.use_join(secret)
    await credentials.keep_certificate(certificate(kernel, token_id=join.token_id))
    await credentials.create(TokenOrder(kind="user", name="bo", roles=("viewer",)), created_by="owner")
    long = TokenOrder(kind="service", name="ci", roles=("viewer",), lifetime_seconds=400 * DAY)
    kept, token = await credentials.create(long, created_by="owner")
    await credentials.revoke("bo")
    kernel.clock.pass_seconds(91 * DAY)
    late, _ = await credentials.create(TokenOrder(kind="user", name="al", roles=("viewer",)), created_by="owner")
    await credentials.revoke("al")
    assert await credentials.prune() == 2
    assert [each.serial for each in credentials.certificates()] == [SERIAL]  # it ended 61 days ago
    with pytest.raises(UnknownCredential):
        await credentials.revoke("bo")
    assert await credentials.revoke(join.token_id) == ([], [SERIAL])  # what was got with it is still named
    kernel.clock.pass_seconds(60 * DAY)
    assert await credentials.prune() == 1
    credentials = await kernel.again()
    assert [each.token_id for each in credentials.tokens()] == [kept.token_id, late.token_id]
    assert credentials.certificates() == []
    assert of(credentials, token) is not ANYONE


async def test_the_last_use_is_stored_once_a_minute_and_not_for_every_call(kernel: Kernel) -> None:
    """A thousand calls within a minute are one write, and none is before the token was made."""
    credentials = kernel.credentials
    record, secret = await credentials.create(CI, created_by="owner")
    written = []
    keep = kernel.store.keep_tokens

    async def counted(records: Sequence[TokenRecord]) -> None:
        written.append(records)
        await keep(records)

    kernel.store.keep_tokens = counted  # type: ignore[method-assign]  # counts and goes on
    for _ in range(1000):
        of(credentials, secret)
    credentials = await kernel.again()
    assert len(written) == 1
    (stored,) = await kernel.store.tokens()
    assert stored.last_used_at_us is not None
    assert record.created_at_us <= stored.last_used_at_us <= kernel.clock.now_us()
    assert record.last_used_at_us is None


async def test_a_user_and_a_service_never_share_a_name(kernel: Kernel) -> None:
    """History shows one name; it is one principal's as long as that one has a good token."""
    await kernel.credentials.create(CI, created_by="owner")
    user = TokenOrder(kind="user", name="ci", roles=("viewer",))
    with pytest.raises(BadRequest, match="that of a service"):
        await kernel.credentials.create(user, created_by="owner")
    await kernel.credentials.revoke("ci")
    await kernel.credentials.create(user, created_by="owner")


async def test_a_role_of_the_configuration_gives_its_grants(tmp_path: Path) -> None:
    """A role that is gone from the configuration gives nothing more; the token stays."""
    kernel = Kernel(tmp_path, roles={"nightwatch": ["read *", "cancel job:nightly*"]})
    credentials = await kernel.start()
    _, secret = await credentials.create(TokenOrder(kind="user", name="al", roles=("nightwatch",)), created_by="owner")
    assert list(map(str, of(credentials, secret).grants)) == ["read *", "cancel job:nightly*"]
    kernel.roles = {}
    credentials = await kernel.again()
    assert of(credentials, secret).grants == ()
    await kernel.stop()
