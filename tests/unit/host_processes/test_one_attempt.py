"""A host that was started for one attempt takes no other, even from a kernel that does not know of such hosts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from nomaflow_api.v1.letters import DispatchOrder
from nomaflow_host.process.runner import SupervisedRunner
from nomaflow_host.supervisor.values import Refused


def test_only_the_attempt_that_it_is_for_is_accepted() -> None:
    """The refusal uses up no try: the kernel queues the attempt again."""
    accepted: list[DispatchOrder] = []
    supervisor = SimpleNamespace(
        cancel=None, kill=None, settled=None, idle_seconds=None, inspect=None, check=None, accept=accepted.append
    )
    runner = SupervisedRunner(supervisor=cast("Any", supervisor), for_attempt="run/fit/1")
    with pytest.raises(Refused, match="this host was started only for attempt 'run/fit/1'"):
        runner.accept(DispatchOrder(attempt_key="run/fit/2", epoch=1, callable="m:f"))
    runner.accept(DispatchOrder(attempt_key="run/fit/1", epoch=1, callable="m:f"))
    assert [order.attempt_key for order in accepted] == ["run/fit/1"]
