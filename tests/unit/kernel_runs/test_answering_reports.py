"""Answers to reports, beside the orders that follow from them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rig import Rig, finished, job, started, step

from nomaflow_api.v1.letters import AttemptAck, AttemptReport, CancelOrder, DispatchOrder
from nomaflow_api.v1.sealing import seal


async def test_a_report_is_answered_right_after_the_orders_that_follow_from_it(rig: Rig) -> None:
    """No turn of the loop lies between them, so that both fit into one message to the host."""
    rig.jobs.add(job("a", step("one"), step("two")))
    host = await rig.host()
    await rig.trigger("a")
    key = (await host.dispatch()).attempt_key
    turn, ordered, answered = [0], asyncio.Event(), asyncio.Event()
    times: dict[str, tuple[int, list[str]]] = {}

    async def count_turns() -> None:
        while not (ordered.is_set() and answered.is_set()):
            await asyncio.sleep(0)
            turn[0] += 1

    def answer(acks: Sequence[AttemptAck]) -> None:
        times["answer"] = turn[0], [each.attempt_key for each in host.orders if isinstance(each, DispatchOrder)]
        assert [ack.acknowledged_seq for ack in acks] == [2]
        answered.set()

    def send(orders: Sequence[DispatchOrder | CancelOrder]) -> None:
        host.orders.extend(orders)
        times["order"] = turn[0], []
        ordered.set()

    host.send = send  # type: ignore[method-assign]
    counting = asyncio.create_task(count_turns())
    events = tuple(map(seal, (started(), finished())))
    await rig.engine.report(
        host.key, [AttemptReport(attempt_key=key, first_seq=1, events=events)], size=1, answer=answer
    )
    async with asyncio.timeout(20):
        await counting
    assert times["answer"] == (times["order"][0], [key, key.replace("/one/", "/two/")])


async def test_the_warnings_of_an_attempt_are_no_longer_than_a_text(rig: Rig) -> None:
    """Each look at a run reads those of all its attempts, and an event has them; a host could send 3 MB of them."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    warnings = ("first", *("x" * 5_000 for _ in range(99)))
    await host.finish((await host.dispatch()).attempt_key, finished(warnings=warnings))
    kept = (await rig.detail(run_id)).attempts[0].facts.warnings
    assert kept == warnings[:4]
    assert [event.data["warnings"] for event in await rig.events(run_id) if "warnings" in event.data] == [list(kept)]
