"""Steps that many tests of a host's session share."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from fake_gateway import FakeGateway
from scripted_host import Host, Offered

KEY = "run_1/one/1"


MakeHost = Callable[..., Host]


MakeGateway = Callable[..., Awaitable[FakeGateway]]


def offer(body: bytes, *, loaded_at_us: int = 0) -> Offered:
    return Offered(digest="sha256:" + hashlib.sha256(body).hexdigest(), body=body, loaded_at_us=loaded_at_us)


async def running(host: Host, kernel: FakeGateway, key: str = KEY, **fields: Any) -> None:
    """Dispatch an attempt and let it start."""
    (await kernel.session(len(kernel.sessions) or 1)).dispatch(key, epoch=kernel.epoch, **fields)
    await host.runner.until(lambda: any(each.attempt_key == key for each in host.runner.accepted))
    host.start_attempt(key)
    await kernel.journal.until(lambda: kernel.journal.acked(key) >= 1)
