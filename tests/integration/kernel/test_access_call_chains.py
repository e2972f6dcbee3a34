"""The chain of runs that called a run names to each caller those only that its grants allow."""

from __future__ import annotations

from contextlib import AsyncExitStack

from access_world import AccessWorld, jobs, kernel_of_two_teams
from kernel_process import manifest


async def test_a_run_names_the_runs_that_led_to_it_only_to_who_may_read_them() -> None:
    """Whoever may read the called job alone sees its runs, and not which run of which other job called them."""
    with kernel_of_two_teams() as running:
        async with AsyncExitStack() as stack:
            world = await AccessWorld(running=running).start(stack)
            calls = {"id": "a.calls", "steps": [{"type": "call_job", "name": "c", "target_job_id": "a.two"}]}
            await world.hosts["a"].introduce(manifest("teama", {"jobs": [*jobs("a")["jobs"], calls]}), explicit=True)
            await world.join("called", grants=("read job:a.two",))
            parent = (await world.as_("owner")("TriggerRun", job_id="a.calls")).run_id
            order = await world.hosts["a"].dispatched()
            child = order.attempt_key.partition("/")[0]
            for name, seen in (("called", []), ("ann", [("a.calls", parent)]), ("owner", [("a.calls", parent)])):
                as_ = world.as_(name)
                runs = [
                    (await as_("GetRun", run_id=child)).run,
                    (await as_("ListRuns", job_id="a.two")).runs[0],
                    (await as_("ListRuns", job_id="a.two", with_steps=True)).runs[0],
                    (await as_("ListJobs", job_ids=["a.two"])).jobs[0].last_run,
                    (await as_("GetJob", job_id="a.two")).job.last_run,
                ]
                watch = as_.stream("WatchRun", run_id=child)
                runs.append((await watch.read()).snapshot)
                watch.cancel()
                assert [run.run_id for run in runs] == [child] * 6
                assert [[(each.job_id, each.run_id) for each in run.parent_chain] for run in runs] == [seen] * 6, name
