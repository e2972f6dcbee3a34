"""Repeats of requests for tokens whose answer got lost: one token, and only the last secret is good."""

from __future__ import annotations

from typing import Any

import pytest
from credential_store import CI, DAY, Kernel
from msgspec.structs import replace

from nomaflow_kernel.access.principals import ANYONE
from nomaflow_kernel.access.token_orders import TokenOrder
from nomaflow_kernel.domain.errors import KernelError

ORDER = TokenOrder(**{name: getattr(CI, name) for name in CI.__struct_fields__} | {"request": "CreateToken/r1"})


def _is_good(kernel: Kernel, secret: str) -> bool:
    return kernel.credentials.of_token(f"Bearer {secret}") is not ANYONE


async def test_a_repeat_makes_a_new_secret_for_the_same_token(kernel: Kernel) -> None:
    """The kernel does not know the first secret, which nobody may have got: it ends, also after a restart."""
    first, lost = await kernel.credentials.create(ORDER, created_by="owner")
    kernel.clock.pass_seconds(60)
    credentials = await kernel.again()
    again, secret = await credentials.create(ORDER, created_by="owner")
    assert again == replace(first, secret_hash=again.secret_hash)
    assert len(credentials.tokens()) == 1
    assert not _is_good(kernel, lost)
    await kernel.again()
    assert not _is_good(kernel, lost)
    assert _is_good(kernel, secret)


@pytest.mark.parametrize("change", [{"name": "other"}, {"grants": ("admin *",)}, {"lifetime_seconds": 5}])
async def test_a_request_id_makes_no_other_token(kernel: Kernel, change: dict[str, Any]) -> None:
    """It is refused, and the token stays as it is."""
    made, secret = await kernel.credentials.create(ORDER, created_by="owner")
    with pytest.raises(KernelError, match=f"has made token {made.token_id}") as caught:
        await kernel.credentials.create(replace(ORDER, **change), created_by="owner")
    assert caught.value.metadata == {"token_id": made.token_id}
    assert _is_good(kernel, secret)


@pytest.mark.parametrize("end", ["use", "revoke", "expire", "rotate"])
async def test_a_secret_that_is_used_or_has_ended_is_not_replaced(kernel: Kernel, end: str) -> None:
    """Whoever uses it got the answer; a token that was withdrawn does not come back."""
    made, secret = await kernel.credentials.create(ORDER, created_by="owner")
    if end == "use":
        assert _is_good(kernel, secret)
    elif end == "revoke":
        await kernel.credentials.revoke(made.token_id)
    elif end == "rotate":
        await kernel.credentials.rotate(made.token_id, overlap_seconds=60, created_by="owner")
    else:
        kernel.clock.pass_seconds(91 * DAY)
    with pytest.raises(KernelError, match="has made token"):
        await kernel.credentials.create(ORDER, created_by="owner")
    assert _is_good(kernel, secret) is (end in ("use", "rotate"))


@pytest.mark.parametrize("by", ["name", "id"])
@pytest.mark.parametrize("overlap", [0, 600])
async def test_a_repeated_rotation_is_one(kernel: Kernel, by: str, overlap: int) -> None:
    """By a name there may be two good tokens by then, and by an id the old one may have ended."""
    old, before = await kernel.credentials.create(CI, created_by="owner")
    target = old.name if by == "name" else old.token_id

    async def rotated() -> tuple[str, str]:
        record, secret = await kernel.credentials.rotate(
            target, overlap_seconds=overlap, created_by="owner", request="RotateToken/r1"
        )
        return record.token_id, secret

    first, lost = await rotated()
    again, secret = await rotated()
    assert first == again != old.token_id
    assert [_is_good(kernel, each) for each in (before, lost, secret)] == [overlap > 0, False, True]
    assert len(kernel.credentials.tokens()) == 2
    with pytest.raises(KernelError, match="has made token"):
        await rotated()
