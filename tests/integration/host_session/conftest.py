"""A host's session with a scriptable gateway, over a real Unix socket."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from fake_gateway import FakeGateway, Journal
from scripted_host import Host

from nomaflow_host.identity import IdentityFolder


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Callable[..., Host]]:
    """Make hosts that find their kernel by the file `address` unless told otherwise."""
    async with AsyncExitStack() as stack:

        def factory(
            *, given: str = "", folder: IdentityFolder | None = None, report_deadline_s: float = 10.0, **caps: int
        ) -> Host:
            made = Host(tmp_path=tmp_path, given=given, folder=folder, report_deadline_s=report_deadline_s, **caps)
            stack.push_async_callback(made.close)
            return made

        yield factory


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[FakeGateway]]]:
    """Start gateways; each writes the file `address` as the kernel does. The journal is shared."""
    journal, numbers = Journal(), itertools.count()
    async with AsyncExitStack() as stack:

        async def factory(*, epoch: int = 1, **welcome: int) -> FakeGateway:
            path = tmp_path / f"kernel{next(numbers)}.sock"
            made = FakeGateway(path, journal=journal, epoch=epoch, **welcome)
            stack.push_async_callback(made.kill)
            await made.start()
            (tmp_path / "address").write_text(f"unix:{path}\n")
            return made

        yield factory
