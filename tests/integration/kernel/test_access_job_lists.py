"""Counts and pauses beside a list of jobs tell each caller of those jobs only that its grants allow."""

from __future__ import annotations

from contextlib import AsyncExitStack

from access_world import AccessWorld, kernel_of_two_teams


async def test_counts_and_pauses_of_jobs_are_those_that_the_caller_may_read() -> None:
    """The other team's jobs are not counted, and its pauses are not told."""
    with kernel_of_two_teams() as running:
        async with AsyncExitStack() as stack:
            world = await AccessWorld(running=running).start(stack)
            owner = world.as_("owner")
            await owner("Pause", job_id="b.one", why="freeze")
            await owner("Pause", host="teamb", why="freeze")
            seen = {}
            for name in ("owner", "ann", "ben"):
                found = await world.as_(name)("ListJobs", with_counts=True, page_size=1)
                seen[name] = (found.total, {each.host for each in found.counts} - {""}, len(found.pauses))
            assert seen == {"owner": (4, {"teama", "teamb"}, 2), "ann": (2, {"teama"}, 0), "ben": (2, {"teamb"}, 2)}
