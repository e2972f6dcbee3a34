"""When exactly an attempt of a silent host is given up."""

from __future__ import annotations

from rig import Rig, job

from nomaflow_kernel.domain.states import AttemptState


async def test_an_attempt_is_given_up_after_the_grace_and_the_margin_and_not_before(rig: Rig) -> None:
    """The host counts the grace alone, from earlier: within the margin it may still run what it is about to kill."""
    rig.jobs.add(job("a", retry_on_lost=True))
    host = await rig.host()
    other = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    holder = host if host.orders else other
    await holder.start((await holder.dispatch()).attempt_key)
    holder.silent = True
    seen = []
    for _ in range(int(rig.settings.grace_seconds + rig.settings.grace_margin_seconds) + 1):
        await rig.advance(1.0)
        seen.append([attempt.state for attempt in (await rig.detail(run_id)).attempts])
    within = int(rig.settings.grace_seconds + rig.settings.grace_margin_seconds) - 1
    assert all(states == [AttemptState.RUNNING] for states in seen[:within]), seen
    assert seen[-1] == [AttemptState.LOST, AttemptState.DISPATCHED]
