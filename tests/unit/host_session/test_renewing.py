"""The renewal of a host's certificate, and of whose there is none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from certificate_authority import Authority
from host_identities import identity_of, joined
from nomaflow_host.session.link import Link
from nomaflow_host.session.renewing import Renewer


@pytest.mark.parametrize(("instance", "renews"), [("", True), ("tok_0123456789ab", False)])
async def test_only_the_certificate_of_a_whole_host_is_renewed(tmp_path: Path, instance: str, renews: bool) -> None:
    """That of one instance ends with it, and the kernel would refuse another."""
    identity = structs.replace(identity_of(Authority(tmp_path), "demo"), instance=instance)
    file = joined(tmp_path, identity)
    assert file.read().instance == instance
    begun: list[float] = []

    def draw(_least: float, most: float) -> float:
        begun.append(most)
        return 0.0

    link = cast(Link, SimpleNamespace(identity=identity))
    renewing: asyncio.Task[Any] = asyncio.create_task(Renewer(file=file, draw=draw).run(link))
    await asyncio.sleep(0)
    assert bool(begun) is renews
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
