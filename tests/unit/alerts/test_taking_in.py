"""Events in batches: each is a commit."""

from __future__ import annotations

import asyncio
from typing import Any

from alerts_rig import section

from nomaflow_alerts.intake import Intake
from nomaflow_alerts.ledger import Ledger
from nomaflow_alerts.rules.policies import Policies


async def test_events_that_come_one_after_the_other_are_one_batch() -> None:
    """A commit for each would be a flush of the disk for each, while the kernel waits for its own."""
    no_part: Any = None
    intake = Intake(
        calls=no_part, stream=no_part, ledger=Ledger(None), policies=Policies(section()), catalogue=no_part,
        samples=no_part, detached_after=300, changed=lambda: None, heard=lambda: None,
    )  # fmt: skip
    intake._queue.put_nowait(1)
    for number in (2, 3):
        asyncio.get_running_loop().call_soon(intake._queue.put_nowait, number)
    assert await intake._batch() == [1, 2, 3]
