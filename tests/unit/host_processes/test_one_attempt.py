"""A host that was started for one attempt takes no other, even from a kernel that does not know of such hosts."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock, Mock

import pytest

from nomaflow_api.v1.letters import DispatchOrder
from nomaflow_host.process.life import HostLife
from nomaflow_host.process.runner import SupervisedRunner
from nomaflow_host.supervisor.values import Refused


def runner_of(**parts: Any) -> SupervisedRunner:
    """Return the runner of a host for one attempt, on a supervisor of which only these parts are used."""
    return SupervisedRunner(supervisor=Mock(**parts), for_attempt="run/fit/1")


def test_only_the_attempt_that_it_is_for_is_accepted() -> None:
    """The refusal uses up no try: the kernel queues the attempt again."""
    accepted: list[DispatchOrder] = []
    runner = runner_of(accept=accepted.append)
    with pytest.raises(Refused, match="this host was started only for attempt 'run/fit/1'"):
        runner.accept(DispatchOrder(attempt_key="run/fit/2", epoch=1, callable="m:f"))
    runner.accept(DispatchOrder(attempt_key="run/fit/1", epoch=1, callable="m:f"))
    assert [order.attempt_key for order in accepted] == ["run/fit/1"]


async def test_the_end_of_the_attempt_is_awaited_without_a_look_at_the_disk() -> None:
    """It is looked for ten times a second, and the project may be thousands of files on a shared disk."""
    given = asyncio.Event()
    given.set()
    session = SimpleNamespace(given=given, outbox=SimpleNamespace(empty=True))
    life = SimpleNamespace(runner=runner_of(attempts=MagicMock()), session=session)
    await HostLife._one_attempt(cast("Any", life))
