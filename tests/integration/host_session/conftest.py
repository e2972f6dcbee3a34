"""A host's session with a scriptable gateway, over a real Unix socket."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from fake_gateway import FakeGateway, Journal
from host_process import JOBS, WORK, MakeKernel, Start
from scripted_host import Host

from nomaflow_host.identity.files import IdentityFile
from processes import still_alive
from real_system import PATIENCE, Running, launch


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Callable[..., Host]]:
    """Make hosts that find their kernel by the file `address` unless told otherwise."""
    async with AsyncExitStack() as stack:

        def factory(*, given: str = "", identity_file: IdentityFile | None = None, **caps: int) -> Host:
            made = Host(tmp_path=tmp_path, given=given, identity_file=identity_file, **caps)
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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "demo"
    (root / "plugins" / "myapp").mkdir(parents=True)
    (root / ".nomaflow").mkdir(mode=0o700)
    (root / "plugins" / "myapp" / "work.py").write_text(WORK)
    (root / "jobs.toml").write_text(JOBS)
    (root / "nomaflow.toml").write_text("[host]\nshared_workers = 1\nmax_sync = 2\ncancel_grace_seconds = 0.3\n")
    return root


@pytest.fixture
async def start(project: Path) -> AsyncIterator[Start]:
    """Start hosts; at the end nothing of them may be left."""
    made: list[Running] = []

    async def factory(*arguments: str, **options: Any) -> Running:
        log_file = project.parent / f"host{len(made)}.log"
        made.append(launch("nomaflow_host", project, *arguments, log_file=log_file, **options))
        return made[-1]

    yield factory
    trees = [child for each in made for child in each.tree()]
    for each in made:
        each.kill()
    assert not still_alive(trees, seconds=PATIENCE)


@pytest.fixture
async def kernels(project: Path) -> AsyncIterator[MakeKernel]:
    """Start gateways that write their address as the project's kernel does."""
    journal, numbers = Journal(), itertools.count()
    async with AsyncExitStack() as stack:

        async def factory(*, epoch: int = 1, **welcome: int) -> FakeGateway:
            path = project.parent / f"k{next(numbers)}.sock"
            made = FakeGateway(path, journal=journal, epoch=epoch, **welcome)
            stack.push_async_callback(made.kill)
            await made.start()
            (project / ".nomaflow" / "address").write_text(f"unix:{path}\n")
            return made

        yield factory
