"""A process runs the jobs of its own manifest, or of its host's catalogue if it serves that, and no others (V2)."""

from __future__ import annotations

import asyncio

import pytest
from teams_kernel import Team, TeamsKernel, job, started, succeeded

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.history.states import RunState


async def _finish(teams: TeamsKernel, instance: Team, run_id: str, count: int) -> None:
    """Let an instance run the step of a run, its ``count``-th order."""
    order = await instance.order(count)
    assert order.run_id == run_id
    await instance.report(order.attempt_key, started(), succeeded())
    await teams.reaches(run_id, RunState.SUCCEEDED)


async def _jobs(teams: TeamsKernel) -> set[str]:
    return {each.job_id for each in (await teams.client.ListJobs(kernel.ListJobsRequest(), timeout=10)).jobs}


async def _why(teams: TeamsKernel, run_id: str) -> str:
    return str((await teams.client.GetRun(kernel.GetRunRequest(run_id=run_id), timeout=10)).run.reason.message)


async def test_a_job_of_another_manifest_is_not_run_by_who_does_not_have_it(teams: TeamsKernel) -> None:
    """V2: with a stolen certificate, a stranger can bring jobs under a team's name; the team's process runs none."""
    real = await (await teams.team("teamb")).attach()
    await real.introduce([job("b.job"), job("b.old")])
    evil = await (await teams.team("teamb", incarnation="incarnation-evil")).attach()
    await evil.introduce([job("b.job", callable="os:system"), job("b.new", callable="os:system"), job("b.old")])
    await evil.leave()
    changed, new = await teams.run("b.job"), await teams.run("b.new")
    same = await teams.run("b.old")
    await _finish(teams, real, same, 1)
    await _finish(teams, real, await teams.run("b.old"), 2)
    assert len(real.orders) == 2
    for run_id in (changed, new):
        assert "has loaded the code that the job is from; to load it: nomaflow reload teamb" in await _why(
            teams, run_id
        )
    await real.introduce([job("b.job"), job("b.old")])
    again = await teams.run("b.job")
    async with asyncio.timeout(60):
        while again not in {order.run_id for order in real.orders}:
            await asyncio.sleep(0.01)


async def test_in_a_rolling_upgrade_each_instance_runs_what_it_has(teams: TeamsKernel) -> None:
    """Old and new code run side by side; what both have goes to both, what is new to the new code only."""
    old = await (await teams.team("teamb", incarnation="incarnation-old")).attach()
    await old.introduce([job("same"), job("changes")])
    waiting = [await teams.run("changes") for _ in range(5)]
    assert {(await old.order(number + 1)).run_id for number in range(5)} == set(waiting)
    queued = await teams.run("changes")  # no slot is free
    new = await (await teams.team("teamb", incarnation="incarnation-new")).attach()
    await new.introduce([job("same"), job("changes", callable="m:f", priority=1), job("added")])
    assert (await new.order()).run_id == queued  # a snapshot of before: the newest code runs it
    for number in range(5):
        await old.report((await old.order(number + 1)).attempt_key, started(), succeeded())
    runs = [await teams.run("changes"), await teams.run("added")]
    assert {(await new.order(2)).run_id, (await new.order(3)).run_id} == set(runs)
    assert (await old.order(5)).run_id in waiting
    assert len(old.orders) == 5
    same = await teams.run("same")
    assert (await old.order(6)).run_id == same


async def test_after_a_restart_the_kernel_asks_for_the_manifest_that_it_does_not_remember(teams: TeamsKernel) -> None:
    """The older of two instances shows its manifest again, which changes no catalogue, and goes on with its jobs."""
    old = await (await teams.team("teamb", incarnation="incarnation-old")).attach()
    await old.introduce([job("same"), job("changes")])
    new = await (await teams.team("teamb", incarnation="incarnation-new")).attach()
    await new.introduce([job("same"), job("changes", priority=1)])
    old_digest, new_digest = old.digest, new.digest
    await teams.restart()
    new = await (await teams.team("teamb", incarnation="incarnation-new")).attach(digest=new_digest)
    assert not new.wanted
    old = await (await teams.team("teamb", incarnation="incarnation-old")).attach(digest=old_digest)
    assert old.wanted
    assert not (await old.introduce([job("same"), job("changes")], explicit=False)).current
    await new.leave()
    same, changed = await teams.run("same"), await teams.run("changes")
    await _finish(teams, old, same, 1)
    assert "nomaflow reload teamb" in await _why(teams, changed)
    back = await (await teams.team("teamb", incarnation="incarnation-new")).attach(digest=new_digest)
    await _finish(teams, back, changed, 1)


async def test_code_of_a_lower_version_that_joins_late_changes_no_jobs(teams: TeamsKernel) -> None:
    """The kernel has never seen it, and it still serves what is the same in both; a person may put it back."""
    new = await (await teams.team("teamb", incarnation="incarnation-new")).attach()
    assert (await new.introduce([job("same"), job("added")], explicit=False, version=7)).current
    old = await (await teams.team("teamb", incarnation="incarnation-old")).attach()
    assert not (await old.introduce([job("same"), job("gone")], explicit=False, version=6)).current
    assert await _jobs(teams) == {"same", "added"}
    await new.leave()
    await _finish(teams, old, await teams.run("same"), 1)
    assert (await old.introduce([job("same"), job("gone")], version=6)).current
    assert await _jobs(teams) == {"same", "gone"}


@pytest.mark.parametrize(("first", "second"), [(None, 1), (7, None), (7, 7), (7, 8)])
async def test_versions_count_only_where_both_have_one(
    teams: TeamsKernel, first: int | None, second: int | None
) -> None:
    """The newest introduction is the catalogue otherwise, as ever."""
    before = await (await teams.team("teamb", incarnation="incarnation-old")).attach()
    await before.introduce([job("a")], explicit=False, version=first)
    after = await (await teams.team("teamb", incarnation="incarnation-new")).attach()
    assert (await after.introduce([job("b")], explicit=False, version=second)).current


async def test_a_job_of_another_host_goes_to_instances_that_accept_it(teams: TeamsKernel) -> None:
    """Acceptance is part of the manifest: an instance of before does not run what only the newer one accepts."""
    a = await (await teams.team("teama")).attach()
    old = await (await teams.team("teamb", incarnation="incarnation-old")).attach()
    await old.introduce([job("b.job")])
    new = await (await teams.team("teamb", incarnation="incarnation-new")).attach()
    await new.introduce([job("b.job")], accept_jobs_from=["teama"])
    await a.introduce([job("a.aimed", host="teamb")])
    for number in range(3):
        await _finish(teams, new, await teams.run("a.aimed"), number + 1)
    assert old.orders == []
