"""A host's session with a scriptable gateway, over a real Unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from fake_gateway import FakeGateway, Journal
from scripted_host import Host


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Callable[..., Host]]:
    """Make hosts that find their kernel by the file `address` unless told otherwise."""
    made: list[Host] = []

    def factory(*, given: str = "", token: str = "", report_deadline_s: float = 10.0, **caps: int) -> Host:
        made.append(Host(tmp_path=tmp_path, given=given, token=token, report_deadline_s=report_deadline_s, **caps))
        return made[-1]

    yield factory
    for each in made:
        await each.close()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[FakeGateway]]]:
    """Start gateways; each writes the file `address` as the kernel does. The journal is shared."""
    journal, made = Journal(), []

    async def factory(*, epoch: int = 1, **welcome: int) -> FakeGateway:
        path = tmp_path / f"kernel{len(made)}.sock"
        made.append(await FakeGateway(path, journal=journal, epoch=epoch, **welcome).start())
        (tmp_path / "address").write_text(f"unix:{path}\n")
        return made[-1]

    yield factory
    for each in made:
        await each.kill()
