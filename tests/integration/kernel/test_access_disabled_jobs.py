"""A job that cannot run: only callers with the grant `logs` are told why, as that may quote an exception or a file."""

from __future__ import annotations

from contextlib import AsyncExitStack

import grpc
import pytest
from access_world import SECRET, AccessWorld, jobs, kernel_of_two_teams
from kernel_process import manifest

from waiting import eventually


async def test_nothing_quotes_an_exception_without_logs() -> None:
    """Neither the job itself, nor a trigger, nor a replay, also if it is only validated; who has the grant is told."""
    with kernel_of_two_teams() as running:
        async with AsyncExitStack() as stack:
            world = await AccessWorld(running=running).start(stack)
            broken = manifest("teama", jobs("a"))
            broken |= {"callables": {}, "modules": {"team.code": {"error": SECRET}}}
            await world.hosts["a"].introduce(broken, explicit=True)
            await world.join("blind", grants=("trigger job:a.*", "operate job:a.*", "read job:a.*"))

            async def disabled() -> bool:
                return bool((await world.as_("owner")("GetJob", job_id="a.one")).job.problems)

            await eventually(disabled)
            for name, told in (("ann", True), ("blind", False)):
                seen = (await world.as_(name)("GetJob", job_id="a.one")).job, *(await world.as_(name)("ListJobs")).jobs
                assert {SECRET in str(each) for each in seen} == {told}
                assert seen[0].why_not_running == seen[0].held
            again = {"run_id": world.runs["a"], "current_definition": True}
            for method, fields in (
                ("TriggerRun", {"job_id": "a.one"}),
                ("ReplayRun", again),
                ("ReplayRun", {**again, "validate_only": True}),
            ):
                for name, told in (("ann", True), ("blind", False)):
                    with pytest.raises(grpc.aio.AioRpcError, match=r"job 'a\.one' cannot run: ") as caught:
                        await world.as_(name)(method, **fields)
                    text = caught.value.details() or ""
                    assert (SECRET in text, "it has problems, which the grant `logs` shows" in text) == (told, not told)
