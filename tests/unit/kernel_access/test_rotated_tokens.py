"""Rotations of tokens: the new one, and the old one for as long as it still works."""

from __future__ import annotations

import pytest
from credential_store import CI, DAY, Kernel
from test_kept_credentials import of

from nomaflow_kernel.access.principals import ANYONE
from nomaflow_kernel.access.token_orders import TokenOrder, UnknownCredential
from nomaflow_kernel.domain.errors import BadRequest


async def test_a_rotated_token_works_beside_its_successor_for_the_overlap(kernel: Kernel) -> None:
    """Scripts get the new secret while the old one still works, for as long as was said."""
    credentials = kernel.credentials
    old, before = await credentials.create(CI, created_by="owner")
    new, after = await credentials.rotate("ci", overlap_seconds=600, created_by="alice")
    assert new.grants == ("trigger job:nightly",)
    assert (new.roles, new.grants, new.name, new.kind) == (old.roles, old.grants, old.name, old.kind)
    assert of(credentials, before) is not ANYONE
    assert of(credentials, after) is not ANYONE
    kernel.clock.pass_seconds(601)
    assert of(credentials, before) is ANYONE
    credentials = await kernel.again()
    assert of(credentials, before) is ANYONE
    assert of(credentials, after) is not ANYONE
    _, at_once = await credentials.rotate(new.token_id, overlap_seconds=0, created_by="alice")
    assert of(credentials, after) is ANYONE
    assert of(credentials, at_once) is not ANYONE


async def test_a_rotation_gives_the_lifetime_of_the_order_also_during_an_overlap(kernel: Kernel) -> None:
    """The end of the overlap is that of the old secret alone, and no later rotation puts it off."""
    credentials = kernel.credentials
    old, before = await credentials.create(CI, created_by="owner")
    await credentials.rotate(old.token_id, overlap_seconds=3600, created_by="owner")
    credentials = await kernel.again()
    again, _ = await credentials.rotate(old.token_id, overlap_seconds=7200, created_by="owner")
    assert again.expires_at_us - again.created_at_us == 90 * DAY * 1_000_000
    kernel.clock.pass_seconds(3599)
    assert of(credentials, before) is not ANYONE
    kernel.clock.pass_seconds(2)
    assert of(credentials, before) is ANYONE


async def test_a_rotation_needs_one_good_token(kernel: Kernel) -> None:
    """Several of one name are told apart by their ids; a join string cannot be rotated."""
    credentials = kernel.credentials
    first, _ = await credentials.create(CI, created_by="owner")
    await credentials.create(CI, created_by="owner")
    join, _ = await credentials.create(
        TokenOrder(kind="user", name="al", joins=True, roles=("viewer",)), created_by="owner"
    )
    with pytest.raises(BadRequest, match=first.token_id):
        await credentials.rotate("ci", overlap_seconds=0, created_by="owner")
    with pytest.raises(BadRequest, match="no good token"):
        await credentials.rotate(join.token_id, overlap_seconds=0, created_by="owner")
    with pytest.raises(BadRequest, match="at most"):
        await credentials.rotate(first.token_id, overlap_seconds=10**9, created_by="owner")
    for unknown in ("nobody", "", "host:teamb"):
        with pytest.raises(UnknownCredential):
            await credentials.rotate(unknown, overlap_seconds=0, created_by="owner")
