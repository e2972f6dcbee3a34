"""Tokens that are not made: each rule is checked, and the invalid field is named."""

from __future__ import annotations

from typing import Any

import pytest
from credential_store import DAY, Kernel

from nomaflow_kernel.access.token_orders import TokenOrder
from nomaflow_kernel.domain.errors import BadRequest


async def test_a_token_that_breaks_a_rule_is_not_made(kernel: Kernel) -> None:
    """The refusal names the field; names that mean somebody else cannot be had."""
    orders: list[tuple[dict[str, object], str]] = [
        ({"kind": "robot"}, "kind"),
        ({"name": ""}, "name"),
        ({"name": "owner"}, "name"),
        ({"name": "anyone"}, "name"),
        ({"name": "kernel"}, "name"),
        ({"name": "cron"}, "name"),
        ({"name": "host:teamb"}, "name"),
        ({"name": "tok_0123456789ab"}, "name"),
        ({"name": "Alice"}, "name"),
        ({"name": "alice (for bob)"}, "name"),
        ({"name": "a\u200b"}, "name"),
        ({"name": "a" * 65}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"roles": ()}, "roles"),
        ({"roles": ("superuser",)}, "roles"),
        ({"roles": ("viewer everywhere",)}, "roles"),
        ({"roles": ("viewer\nadmin",)}, "roles"),
        ({"grants": ("fly *",)}, "grants"),
        ({"grants": ("read job:a/../b",)}, "grants"),
        ({"grants": ("read job:a",) * 101}, "grants"),
        ({"lifetime_seconds": 10**9}, "lifetime_seconds"),
        ({"uses": 2}, "uses"),
        ({"joins": True, "uses": 1001}, "uses"),
        ({"joins": True, "lifetime_seconds": 31 * DAY}, "lifetime_seconds"),
        ({"kind": "host", "roles": ()}, "joins"),
        ({"kind": "host", "joins": True}, "roles"),
        ({"kind": "host", "joins": True, "roles": (), "name": "a.b"}, "name"),
        ({"kind": "host", "joins": True, "roles": (), "name": "host:b"}, "name"),
    ]
    for order, field in orders:
        told: dict[str, Any] = {"kind": "user", "name": "alice", "roles": ("viewer",), **order}
        with pytest.raises(BadRequest) as caught:
            await kernel.credentials.create(TokenOrder(**told), created_by="owner")
        assert list(caught.value.fields) == [field], order
    assert kernel.credentials.tokens() == []
