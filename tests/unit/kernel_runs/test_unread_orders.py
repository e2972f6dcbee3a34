"""Orders that a host does not read: they wait in the kernel's memory, so an instance gets no more than fit there."""

from __future__ import annotations

import pytest
from rig import Rig, job

from nomaflow_api.v1.letters import DispatchOrder
from nomaflow_kernel.engine import fleet
from nomaflow_kernel.history.states import RunState
from nomaflow_project.jobs.definitions import Overlap

VALUES = {"text": "x" * 1_000}


@pytest.fixture(autouse=True)
def most_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the third order be one too many."""
    monkeypatch.setattr(fleet, "_MOST_UNREAD", 5_000)


async def test_an_instance_that_reports_on_nothing_gets_only_so_many_orders(rig: Rig) -> None:
    """Each report on an attempt makes room for the next order, and so does each end."""
    rig.jobs.add(job("a", overlap=Overlap.ALLOW))
    host = await rig.host()
    runs = [(await rig.trigger("a", params=VALUES)).run_id for _ in range(6)]
    await rig.settle()
    assert [await rig.state(run_id) for run_id in runs] == [RunState.RUNNING] * 3 + [RunState.QUEUED] * 3
    assert len(host.orders) == 3
    reason = rig.engine.holdup(runs[3])
    assert reason is not None
    assert reason.code == "waiting_for_slot"
    await host.start((await host.dispatch(1)).attempt_key)
    assert (await host.dispatch(4)).run_id == runs[3]
    await rig.settle()
    assert len(host.orders) == 4
    await rig.engine.cancel(runs[1], by="ann", why="")
    await host.finish((await host.dispatch(2)).attempt_key)
    await rig.settle()
    orders = [each.run_id for each in host.orders if isinstance(each, DispatchOrder)]
    assert orders == runs[:5]


async def test_what_is_sent_again_is_counted_once_and_without_the_values_of_what_has_begun(rig: Rig) -> None:
    """The host of a restarted kernel may say that it holds nothing: it gets what it has not read, and keys."""
    rig.jobs.add(job("a", overlap=Overlap.ALLOW))
    host = await rig.host()
    runs = [(await rig.trigger("a", params=VALUES)).run_id for _ in range(6)]
    await host.dispatch(3)
    begun = (await host.dispatch(1)).attempt_key
    await host.start(begun)
    await host.dispatch(4)
    for _ in range(2):
        await rig.restart()
        host.orders.clear()
        await host.attach()
        await rig.settle()
        again = {each.run_id: each.order for each in host.orders if isinstance(each, DispatchOrder)}
        assert again.keys() == set(runs[:4])
        assert [bool(again[run_id]) for run_id in runs[:4]] == [False, True, True, True]
    for run_id in runs[1:4]:
        await host.start(f"{run_id}/{begun.split('/')[1]}/1")
    await host.dispatch(6)  # the values of a run that waits are read from the store first
    assert [each.run_id for each in host.orders[4:] if isinstance(each, DispatchOrder)] == runs[4:]
