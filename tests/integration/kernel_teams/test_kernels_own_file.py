"""The answer to a reload about the jobs file that the kernel itself reads."""

from __future__ import annotations

import logging

import pytest
from teams_kernel import TeamsKernel

from nomaflow_api.v1 import kernel_service_pb2 as kernel


async def test_a_reload_tells_what_became_of_the_kernels_own_jobs(teams: TeamsKernel) -> None:
    """Removed jobs are named once, whichever reading removed them; jobs of a file that is not named are kept."""
    teams.jobs_file = teams.directory / "jobs.toml"
    table = '[[jobs]]\nid = "{}"\nhost = "teamb"\n[[jobs.steps]]\ncallable = "m:f"\n'

    async def reloaded() -> list[tuple[bool, str, list[str], list[str]]]:
        answer = await teams.client.ReloadHost(kernel.ReloadHostRequest(), timeout=10)
        return [
            (each.accepted, each.message, list(each.removed_job_ids), [problem.code for problem in each.problems])
            for each in answer.instances
        ]

    teams.jobs_file.write_text("".join(map(table.format, "abc")))
    await teams.restart()
    assert await reloaded() == []
    teams.jobs_file.write_text("".join(map(table.format, "ac")))
    await teams.catalogue.reload_jobs_file()  # as after a save
    teams.jobs_file.write_text(table.format("a"))
    assert await reloaded() == [(True, "the kernel's own jobs file was read again", ["b", "c"], [])]
    assert await reloaded() == []
    teams.jobs_file = None
    await teams.restart()
    for _ in range(2):
        [(accepted, message, removed, problems)] = await reloaded()
        assert (accepted, removed, problems) == (False, [], ["no_file_named"])
        assert message == "the kernel's own jobs file is no longer named; keeping the last good definitions of: a"
    answer = await teams.client.GetJob(kernel.GetJobRequest(job_id="a"), timeout=10)
    assert answer.job.kept


async def test_another_file_is_named_in_place_of_the_first(
    teams: TeamsKernel, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names both files and the jobs that are gone; one that is not there removes nothing, and is named."""
    caplog.set_level(logging.INFO)
    first, second = teams.directory / "first.toml", teams.directory / "second.toml"
    for file, job_id in ((first, "a"), (second, "b")):
        file.write_text(f'[[jobs]]\nid = "{job_id}"\nhost = "teamb"\n[[jobs.steps]]\ncallable = "m:f"\n')
        teams.jobs_file = file
        await teams.restart()
    assert f"{second} is now named in place of {first}, and no longer brings these jobs: a" in caplog.text
    teams.jobs_file = teams.directory / "third.toml"
    await teams.restart()
    job = (await teams.client.GetJob(kernel.GetJobRequest(job_id="b"), timeout=10)).job
    assert job.kept
    assert [(each.file, each.code) for each in job.problems] == [(str(teams.jobs_file), "missing_file")]
