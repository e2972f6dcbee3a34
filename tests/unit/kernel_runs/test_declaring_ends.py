"""Instances whose end is declared: what they held has failed at once, and nothing is done twice if they live."""

from __future__ import annotations

import asyncio

from rig import PlayedHost, Rig, failed, finished, job, opened, started

from nomaflow_api.v1.letter_words import AckStatus, VerdictAction
from nomaflow_api.v1.letters import InventoryLine
from nomaflow_kernel.history.states import RunState
from nomaflow_project.jobs.retry_policy import RetryPolicy

EVIDENCE = "Slurm job 12 is TIMEOUT, and its processes were in a cgroup"


async def _declare(rig: Rig, host: PlayedHost, *, name: str = "demo") -> int | None:
    return await rig.engine.declare_ended((name, host.incarnation), evidence=EVIDENCE, by="slurm")


async def test_what_a_declared_instance_held_fails_at_once_and_is_retried_elsewhere(rig: Rig) -> None:
    """Without waiting for the grace; attempt and event have the evidence, and a repeat changes nothing."""
    rig.jobs.add(job("a", retry=RetryPolicy(attempts=2, base_seconds=0)), job("b"))
    host = await rig.host()
    first = (await rig.trigger("a")).run_id
    second = (await rig.trigger("b")).run_id
    await host.start((await host.dispatch(2)).attempt_key)
    rig.engine.detach(host.key, host)
    other = PlayedHost(rig)
    await other.attach()
    assert await _declare(rig, host) == 2
    assert await _declare(rig, host) is None
    detail = await rig.detail(second)
    assert detail.run.state is RunState.FAILED
    assert detail.run.reason is not None
    assert detail.run.reason.code == "host_ended"
    assert EVIDENCE in detail.run.reason.message
    retried = await other.dispatch()
    assert (retried.run_id, opened(retried).attempt) == (first, 2)
    (told,) = [event for event in await rig.events() if event.kind == "host.ended"]
    assert (told.host, told.by, told.data["incarnation"]) == ("demo", "slurm", host.incarnation)
    assert (told.data["evidence"], told.data["attempts"]) == (EVIDENCE, 2)


async def test_what_a_declared_instance_held_makes_room_for_what_waits(rig: Rig) -> None:
    """A run that waits for the host's max_parallel starts at once, though the one that held the place backs off."""
    rig.jobs.add(job("a", retry=RetryPolicy(attempts=2, base_seconds=60)), job("b"))
    rig.jobs.bounds["demo"] = 1
    host = await rig.host()
    await rig.trigger("a")
    await host.dispatch()
    other = await rig.host()
    await rig.trigger("b")
    await rig.settle()
    assert other.orders == []
    assert await _declare(rig, host) == 1
    assert opened(await other.dispatch()).job_id == "b"


async def test_a_declaration_is_about_an_instance_of_its_host_only(rig: Rig) -> None:
    """An instance of another host, or one that nobody knows, is not known; what runs goes on."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.start((await host.dispatch()).attempt_key)
    assert await _declare(rig, host, name="other") is None
    assert await rig.state(run_id) is RunState.RUNNING
    assert host.ended == []
    await host.report(f"{run_id}/one/1", finished(), first_seq=2)
    assert await rig.state(run_id) is RunState.SUCCEEDED


async def test_an_instance_that_only_an_earlier_kernel_has_seen_can_be_declared(rig: Rig) -> None:
    """After a restart of the kernel it is known from its attempts alone."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.dispatch()
    await rig.restart()
    assert await _declare(rig, host) == 1
    assert await rig.state(run_id) is RunState.FAILED


async def test_a_declared_instance_that_lives_is_told_to_kill_and_serves_again(rig: Rig) -> None:
    """A wrong declaration ends its session. Whatever it still says changes nothing, and it must kill the attempt."""
    rig.jobs.add(job("a", retry=RetryPolicy(attempts=2, base_seconds=0)))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.start(key)
    other = await rig.host()
    assert await _declare(rig, host) == 1
    assert len(host.ended) == 1
    assert EVIDENCE in host.ended[0]
    assert opened(await other.dispatch()).attempt == 2
    # A report that was on its way: more of the attempt, and then its result.
    assert (await host.report(key, started(), first_seq=2)).status is AckStatus.CONFLICT
    verdicts = await host.attach(inventory=[InventoryLine(attempt_key=key)])
    assert [verdict.action for verdict in verdicts] == [VerdictAction.KILL]
    assert (await host.report(key, started(), failed(), first_seq=2)).status is AckStatus.CONFLICT
    assert await rig.state(run_id) is RunState.RUNNING
    await other.finish(f"{run_id}/one/2")
    assert await rig.state(run_id) is RunState.SUCCEEDED
    assert [event.attempt for event in await rig.events(run_id) if event.kind == "attempt.late_result"] == [1]
    # The same process takes the next run.
    other.silent = True
    rig.engine.detach(other.key, other)
    await rig.trigger("a")
    assert opened(await host.dispatch(2)).attempt == 1


async def test_a_result_that_comes_before_the_declaration_counts(rig: Rig) -> None:
    """The declaration then finds nothing to end."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    assert await _declare(rig, host) == 0
    assert await rig.state(run_id) is RunState.SUCCEEDED


async def test_retry_on_lost_counts_for_a_declared_end_too(rig: Rig) -> None:
    """A step that would have run again after the grace is not worse off for the certainty."""
    rig.jobs.add(job("a", retry_on_lost=True))
    host = await rig.host()
    await rig.trigger("a")
    await host.dispatch()
    other = PlayedHost(rig)
    await other.attach()
    assert await _declare(rig, host) == 1
    assert opened(await other.dispatch()).attempt == 2


async def test_a_canceled_run_of_a_declared_instance_is_canceled(rig: Rig) -> None:
    """The cancel that the instance did not answer any more is not turned into a failure of the run."""
    rig.jobs.add(job("a", retry=RetryPolicy(attempts=2, base_seconds=0)))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.start((await host.dispatch()).attempt_key)
    await rig.engine.cancel(run_id, by="ann", why="")
    await _declare(rig, host)
    assert await rig.state(run_id) is RunState.CANCELED


async def test_an_attach_that_is_given_up_leaves_no_instance(rig: Rig) -> None:
    """Its turn may be taken all the same; nobody is there to send orders to."""
    attaching = asyncio.create_task(PlayedHost(rig).attach())
    await asyncio.sleep(0)
    attaching.cancel()
    await asyncio.wait([attaching])
    await rig.settle()
    assert [event.kind for event in await rig.events()] == ["host.attached", "host.detached"]
    assert rig.engine.instances() == []
