"""Details that the kernel is asked for before a message is written."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from alerts_rig import Rig

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
