"""Tokens and certificates are kept whole, replaced by their id, and outlive the kernel."""

from __future__ import annotations

from msgspec.structs import replace
from store_histories import T0
from store_places import Place

from nomaflow_kernel.history.access_records import CertificateRecord, TokenRecord
from nomaflow_kernel.store.sql_store import Store, open_store


def token(number: int) -> TokenRecord:
    """Return a token with every field set that may be."""
    return TokenRecord(
        token_id=f"tok_{number}",
        kind="service",
        name="ci",
        joins=number == 2,
        roles=("viewer job:ü*", "nightwatch"),
        grants=("cancel tag:'; DROP TABLE tokens",),
        secret_hash=f"{number:064x}",
        created_at_us=T0 - number,
        created_by="alice (for bob)",
        expires_at_us=2**60,
        uses_left=3 if number == 2 else None,
        joined_with="tok_0" if number == 1 else "",
        lifetime_seconds=60 if number == 1 else None,
    )


def certificate(number: int) -> CertificateRecord:
    """Return a certificate."""
    return CertificateRecord(
        serial=f"{number:040x}",
        host="teamb",
        issued_at_us=T0 - number,
        expires_at_us=2**60,
        issued_to="ipv6:[::1]:1",
        token_id="tok_1",
        line=f"{1:040x}",
        ids=("a.*", "b"),
    )


async def test_tokens_and_certificates_are_replaced_by_their_id(store: Store, place: Place) -> None:
    """Each change is a whole record; the order is that in which they were made, and a new kernel reads the same."""
    one, two = token(1), token(2)
    first, second = certificate(1), certificate(2)
    assert (await store.tokens(), await store.certificates()) == ([], [])
    await store.keep_tokens((one, two))
    await store.keep_certificates((first,))
    await store.keep_certificates((second,))
    used = replace(two, uses_left=0, last_used_at_us=T0)
    revoked = replace(one, revoked_at_us=T0, expires_at_us=T0 + 1)
    await store.keep_tokens((used, revoked))
    await store.keep_certificates((replace(first, revoked_at_us=T0),))
    kept = await store.tokens(), await store.certificates()
    assert kept == ([used, revoked], [second, replace(first, revoked_at_us=T0)])
    await store.close()
    again = open_store(place.url, holder="again")
    await again.open()
    assert (await again.tokens(), await again.certificates()) == kept
    await again.close()
