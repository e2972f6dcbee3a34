"""Details that the kernel is asked for before a message is written."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
from alerts_rig import START, Rig

from nomaflow.client import KernelClient
from nomaflow_alerts.messages import details


class _SlowKernel:
    """A kernel that does not answer in time."""

    async def get_run(self, run_id: str) -> Any:
        await asyncio.Event().wait()


async def test_a_slow_kernel_is_the_reason_of_fewer_details(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The time limit of Python has no words of its own."""
    monkeypatch.setattr(details, "_SECONDS", 0.01)
    rig = Rig()
    rig.ends("FAILED")
    with caplog.at_level(logging.INFO):
        found = await details.KernelDetails(cast(KernelClient, _SlowKernel())).of([rig.incident("failed")])
    assert found == {}
    assert "a message has fewer details: the kernel is slow" in caplog.text


class _LateKernel:
    """A kernel that knows when a job fires next."""

    async def get_job(self, _: str) -> Any:
        return SimpleNamespace(next_fires=[SimpleNamespace(preset=name, at=name) for name in ("other", "")])


async def test_an_incident_without_a_run_is_told_with_the_next_fire_of_its_preset() -> None:
    """A late job has no run to ask for; another preset's fire is not its own."""
    rig = Rig()
    rig.job(schedule="0 13 * * *", late_after_minutes=30)
    rig.turn()
    rig.now = START + 2 * 3600
    rig.turn()
    late = rig.incident("late")
    found = await details.KernelDetails(cast(KernelClient, _LateKernel())).of([late])
    assert found == {late.id: details.Details(next_fire=cast(Any, ""))}
