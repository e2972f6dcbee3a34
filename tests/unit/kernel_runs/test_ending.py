"""An engine that ends by itself: it reports that once, and no caller waits in vain."""

from __future__ import annotations

import asyncio

import pytest
from rig import Rig, job

from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.domain.errors import KernelStopping
from nomaflow_kernel.store.errors import StaleEpoch


async def test_a_defect_ends_the_engine_aloud(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting callers learn that the kernel is stopping, the process learns why, later calls are refused at once."""

    def broken(job_id: str) -> Job | None:
        raise RuntimeError("a defect")

    rig.jobs.add(job("a"))
    monkeypatch.setattr(rig.jobs, "job", broken)
    async with asyncio.timeout(60):
        with pytest.raises(KernelStopping):
            await rig.trigger("a")
        assert [str(error) for error in rig.ended] == ["a defect"]
        with pytest.raises(KernelStopping):
            await rig.trigger("a")


async def test_a_newer_kernel_ends_the_engine(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Being fenced ends it too, and the caller hears why."""

    async def fenced(*args: object, **kwargs: object) -> object:
        raise StaleEpoch(own=1, found=2)

    rig.jobs.add(job("a"))
    monkeypatch.setattr(rig.store, "apply", fenced)
    async with asyncio.timeout(60):
        with pytest.raises(StaleEpoch):
            await rig.trigger("a")
        assert [type(error) for error in rig.ended] == [StaleEpoch]
