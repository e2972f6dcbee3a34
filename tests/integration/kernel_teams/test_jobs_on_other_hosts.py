"""A job runs on the host that brought it; elsewhere only where the target accepts it (V3, A6)."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from teams_kernel import PATIENCE, Team, TeamsKernel, job, reason_of, refusal, started, succeeded

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.reason_statuses import REASONS, status_error
from nomaflow_kernel.access.grants import Grant
from nomaflow_kernel.access.principals import OWNER, Principal, PrincipalKind
from nomaflow_kernel.history.states import RunState
from waiting import eventually

AIMED = job("a.aimed", host="teamb", callable="os:system")


async def _two(teams: TeamsKernel, *, accepts: bool) -> tuple[Team, Team]:
    """Return teams a and b; b has one job and accepts those of a, or not."""
    a = await (await teams.team("teama")).attach()
    b = await (await teams.team("teamb")).attach()
    await b.introduce([job("b.job")], accept_jobs_from=["teama"] if accepts else [])
    return a, b


async def _job(teams: TeamsKernel, job_id: str) -> kernel.GetJobResponse:
    return (await teams.client.GetJob(kernel.GetJobRequest(job_id=job_id), timeout=10)).job


async def _refusal(teams: TeamsKernel, job_id: str) -> str:
    """Return how a trigger is refused."""
    (item,) = (
        await teams.client.TriggerRuns(
            kernel.TriggerRunsRequest(requests=[kernel.TriggerRunRequest(job_id=job_id)]), timeout=10
        )
    ).items
    error = status_error(item.status)
    assert reason_of(error) in REASONS
    return f"{reason_of(error)}: {error.details()}"


async def test_a_job_that_aims_at_a_host_which_does_not_accept_it_is_disabled(teams: TeamsKernel) -> None:
    """V3: that one job is disabled and says which hosts and what to write; the rest of the manifest serves."""
    a, b = await _two(teams, accepts=False)
    answer = await a.introduce([AIMED, job("a.own")])
    assert list(answer.disabled_job_ids) == ["a.aimed"]
    shown = await _job(teams, "a.aimed")
    assert (shown.valid, shown.host, shown.owner) == (False, "teamb", "teama")
    problem = shown.problems[0]
    assert (problem.code, problem.path) == ("job_not_accepted", "jobs[0].host")
    assert problem.message == "no host 'teamb' accepts jobs of host 'teama'"
    assert "[host] accept_jobs_from = [\"teama\"] in the nomaflow.toml of 'teamb'" in problem.fix
    assert await _refusal(teams, "a.aimed") == (
        "JOB_DISABLED: job 'a.aimed' cannot run: no host 'teamb' accepts jobs of host 'teama'; "
        "see `nomaflow job a.aimed`"
    )
    (event,) = [each for each in await teams.events() if each.kind == "job.refused"]
    assert (event.job_id, event.host) == ("a.aimed", "teama")
    assert "no host 'teamb' accepts jobs of host 'teama'" in event.data["why"]
    await teams.run("a.own")
    await a.order()
    own = await teams.run("b.job")
    assert (await b.order()).run_id == own


async def test_a_job_runs_on_the_host_that_accepts_it(teams: TeamsKernel) -> None:
    """The target's owner has said so; then it runs there, in either order of the manifests, and after a restart."""
    a, b = await _two(teams, accepts=True)
    assert list((await a.introduce([AIMED])).disabled_job_ids) == []
    run_id = await teams.run("a.aimed")
    order = await b.order()
    assert order.callable == "os:system"
    await b.report(order.attempt_key, started(), succeeded())
    await teams.reaches(run_id, RunState.SUCCEEDED)
    await teams.restart()
    assert (await _job(teams, "a.aimed")).valid
    shown = [
        (each.job_id, each.host, each.owner) for each in (await teams.client.ListJobs(kernel.ListJobsRequest())).jobs
    ]
    assert shown == [("a.aimed", "teamb", "teama"), ("b.job", "teamb", "teamb")]


async def test_a_host_runs_only_its_own_callables_for_others(teams: TeamsKernel) -> None:
    """V3: to accept another team's jobs is not to run any code that it names; an old definition gets no further."""
    a, b = await _two(teams, accepts=True)
    await a.introduce([job("a.moves", callable="os:popen")], offers=("os:popen",))
    done = await teams.run("a.moves")
    await a.report((await a.order()).attempt_key, started(), succeeded())
    await teams.reaches(done, RunState.SUCCEEDED)
    moved = job("a.moves", callable="m:f", host="teamb")
    wild = job("a.wild", callable="os:popen", host="teamb")
    assert list((await a.introduce([moved, wild])).disabled_job_ids) == ["a.wild"]
    problem = (await _job(teams, "a.wild")).problems[0]
    assert (problem.code, problem.path) == ("callable_not_offered", "jobs[1].steps[0].callable")
    assert problem.message == "host 'teamb' offers no callable 'os:popen' to jobs of host 'teama'"
    replay = teams.client.ReplayRun(kernel.ReplayRunRequest(run_id=done), timeout=10)
    assert await refusal(replay) == "JOB_DISABLED"
    await teams.run("a.moves")
    assert (await b.order()).callable == "m:f"
    await b.introduce([job("b.job")], accept_jobs_from=["teama"], offers=("os:popen",))
    assert (await _job(teams, "a.wild")).valid


async def test_a_host_runs_no_image_that_another_names(teams: TeamsKernel) -> None:
    """An image is code, and would run with the target's secrets; an instance of its own is no more than a machine."""
    a, _ = await _two(teams, accepts=True)
    steps = [{"name": "one", "callable": "m:f", "image": "evil/everything"}]
    own = {"name": "one", "callable": "m:f", "isolation": "instance"}
    jobs = [
        job("a.image", host="teamb", steps=steps),
        job("a.own", host="teamb", steps=[own]),
        job("a.here", steps=steps),
    ]
    assert list((await a.introduce(jobs)).disabled_job_ids) == ["a.image"]
    problem = (await _job(teams, "a.image")).problems[0]
    assert (problem.code, problem.path) == ("image_of_another_host", "jobs[0].steps[0].image")


async def test_a_target_that_accepts_later_has_the_job_at_once(teams: TeamsKernel) -> None:
    """The manifest of its target is enough: the job is not loaded again."""
    a, b = await _two(teams, accepts=False)
    await a.introduce([AIMED])
    await b.introduce([job("b.job")], accept_jobs_from=["teama"])
    assert (await _job(teams, "a.aimed")).valid
    assert list((await _job(teams, "a.aimed")).problems) == []
    changed = [
        each.data["change"] for each in await teams.events() if each.kind == "job.changed" and each.job_id == "a.aimed"
    ]
    assert changed == ["added", "changed"]


async def test_a_target_that_accepts_no_longer_takes_the_job_off_at_once(teams: TeamsKernel) -> None:
    """Its waiting runs FAIL by name, its next steps too; a step that runs may end; a replay is refused."""
    a, b = await _two(teams, accepts=True)
    steps = [{"name": "one", "callable": "m:f"}, {"name": "two", "callable": "m:f"}]
    await a.introduce([job("a.aimed", host="teamb", steps=steps), job("a.waits", host="teamb")])
    done = await teams.run("a.waits")
    await b.report((await b.order()).attempt_key, started(), succeeded())
    await teams.reaches(done, RunState.SUCCEEDED)
    running = await teams.run("a.aimed")
    key = (await b.order(2)).attempt_key
    await b.report(key, started())
    await teams.client.Pause(kernel.PauseRequest(job_id="a.waits"), timeout=10)
    waiting = await teams.run("a.waits")
    await b.introduce([job("b.job")])
    ended = await teams.reaches(waiting, RunState.FAILED)
    assert ended.run.reason is not None
    assert ended.run.reason.code == "job_disabled"
    assert "no host 'teamb' accepts jobs of host 'teama'" in ended.run.reason.message
    await b.report(key, succeeded(), first_seq=2)
    ended = await teams.reaches(running, RunState.FAILED)
    assert [(each.step, each.state) for each in ended.attempts] == [("one", "SUCCEEDED"), ("two", "FAILED")]
    assert ended.run.reason is not None
    assert ended.run.reason.code == "job_disabled"
    assert len(b.orders) == 2
    (item,) = [each for each in await teams.events() if each.kind == "job.refused" and each.job_id == "a.waits"]
    assert item.host == "teama"
    replay = teams.client.ReplayRun(kernel.ReplayRunRequest(run_id=done), timeout=10)
    assert await refusal(replay) == "JOB_DISABLED"


async def test_a_broken_job_does_not_keep_what_its_target_withdrew(teams: TeamsKernel) -> None:
    """Last good definitions are kept in spite of mistakes, not in spite of the target's owner."""
    a, b = await _two(teams, accepts=True)
    await a.introduce([job("a.aimed", host="teamb")])
    await a.introduce([job("a.aimed", host="teamb", overlpa="skip")])
    assert (await _job(teams, "a.aimed")).kept
    await b.introduce([job("b.job")])
    shown = await _job(teams, "a.aimed")
    assert (shown.valid, shown.kept, shown.problems[0].code) == (False, False, "job_not_accepted")


async def test_the_log_has_the_first_of_many_refused_jobs(teams: TeamsKernel, caplog: pytest.LogCaptureFixture) -> None:
    """A manifest may bring thousands, each time others. Each of them is in the list and has its event."""
    a = await (await teams.team("teama")).attach()
    await a.introduce([job(f"a.{number}", host="teamb") for number in range(30)])
    told = [each.getMessage() for each in caplog.records if "disabled" in each.getMessage()]
    assert (len(told), told[-1]) == (21, "10 more jobs are disabled: nomaflow jobs --all")
    assert len([each for each in await teams.events() if each.kind == "job.refused"]) == 30


async def test_a_host_that_is_not_there_has_accepted_nothing(teams: TeamsKernel) -> None:
    """A host may come later; until it has said that it accepts the job, nothing waits for it."""
    a = await (await teams.team("teama")).attach()
    await a.introduce([AIMED])
    assert (await _job(teams, "a.aimed")).problems[0].message == "no host 'teamb' accepts jobs of host 'teama'"
    b = await (await teams.team("teamb")).attach()
    await b.introduce([], accept_jobs_from=["teama"])
    assert (await _job(teams, "a.aimed")).valid
    await b.leave()
    async with asyncio.timeout(PATIENCE):
        while teams.sessions.of_host("teamb"):
            await asyncio.sleep(0.01)
    await teams.client.ForgetHost(kernel.ForgetHostRequest(host="teamb"), timeout=10)
    assert not (await _job(teams, "a.aimed")).valid


async def test_the_kernels_own_file_may_name_any_host(teams: TeamsKernel) -> None:
    """It is its owner's."""
    teams.jobs_file = teams.directory / "jobs.toml"
    teams.jobs_file.write_text(
        '[[jobs]]\nid = "central"\nhost = "teamb"\n[[jobs.steps]]\ncallable = "m:f"\nop_kwargs = { x = "${X}" }\n'
    )
    await teams.restart()
    b = await (await teams.team("teamb")).attach()
    await b.introduce([])
    shown = await _job(teams, "central")
    assert (shown.valid, shown.host, shown.owner) == (True, "teamb", "")
    await teams.run("central")
    assert (await b.letter()).literal_kwargs == ()


async def test_the_kernels_own_file_is_read_again_only_for_who_operates_everything(teams: TeamsKernel) -> None:
    """An operator of one host reloads that host. The kernel's own jobs are none of his business."""
    teams.jobs_file = teams.directory / "jobs.toml"
    teams.jobs_file.write_text("")
    await teams.restart()
    grants = tuple(map(Grant.parse, ("read *", "logs *", "operate host:teamb")))
    ben = Principal(kind=PrincipalKind.USER, name="ben", grants=grants)
    for principal, known in ((ben, False), (OWNER, True)):
        teams.jobs_file.write_text('[[jobs]]\nid = "central"\n[[jobs.steps]]\ncallable = "m:f"\n')
        calls: Any = KernelServiceStub(await teams.door(principal.name, principal))
        with pytest.raises(grpc.aio.AioRpcError):  # no host is there, which comes after the file
            await calls.ReloadHost(kernel.ReloadHostRequest(host="teamb"), timeout=10)
        assert (teams.catalogue.job("central") is not None) is known


async def test_a_job_id_of_another_team_disables_that_one_job(teams: TeamsKernel) -> None:
    """A6: the rest of the manifest serves, and the claim is an event."""
    a, b = await _two(teams, accepts=True)
    assert list((await a.introduce([job("b.job", callable="os:system"), job("a.own")])).disabled_job_ids) == ["b.job"]
    (event,) = [each for each in await teams.events() if each.kind == "job.refused"]
    assert (event.job_id, event.host) == ("b.job", "teama")
    assert "'b.job' belongs to another host" in event.data["why"]
    assert "teamb" not in event.data["why"]
    told = {}
    for name, grants in (("ann", ("read host:teama", "logs host:teama")), ("all", ("read *", "logs *"))):
        principal = Principal(kind=PrincipalKind.USER, name=name, grants=tuple(map(Grant.parse, grants)))
        calls: Any = KernelServiceStub(await teams.door(name, principal))
        jobs = (await calls.ListJobs(kernel.ListJobsRequest(), timeout=10)).jobs
        (told[name],) = [each for each in jobs if each.job_id == "b.job" and each.problems]
    assert "belongs to the host 'teamb'" in told["all"].problems[0].message
    assert "belongs to another host" in told["ann"].problems[0].message
    assert "teamb" not in str(told["ann"])
    await a.introduce([job("b.job", callable="os:system"), job("a.own"), job("a.aimed", host="teamc")])
    rows = await eventually(teams.claims)
    assert [(row.principal, row.outcome) for row in rows] == [("host:teama", "JOB_DISABLED")] * 2
    assert [row.target for row in rows] == ["job:b.job", "job:a.aimed, job:b.job"]
    await teams.run("b.job")
    assert (await b.order()).callable == "m:f"


async def test_values_of_a_job_of_another_host_are_literal(teams: TeamsKernel) -> None:
    """V6: the target runs code of the other's choice, and does not put its own variables into the values."""
    a, b = await _two(teams, accepts=True)
    values = {
        "params": {"p": "${SECRET}"},
        "steps": [{"name": "one", "callable": "m:f", "op_kwargs": {"k": "${SECRET}"}}],
    }
    await a.introduce([job("a.aimed", host="teamb", **values), job("a.own", **values)])
    run_id = await teams.run("a.aimed")
    letter = await b.letter()
    assert (set(letter.literal_kwargs), letter.literal_params) == ({"p", "k"}, ("p",))
    await b.report(letter.attempt_key, started(), succeeded())
    await teams.reaches(run_id, RunState.SUCCEEDED)
    await teams.client.ReplayRun(kernel.ReplayRunRequest(run_id=run_id), timeout=10)
    assert set((await b.letter(2)).literal_kwargs) == {"p", "k"}
    await teams.run("a.own")
    assert (await a.letter()).literal_kwargs == ()


CALLS = [{"name": "call", "type": "call_job", "target_job_id": "b.job", "params": {"given": "${SECRET}"}}]


async def test_a_call_starts_a_job_of_another_host_only_where_that_one_accepts_it(teams: TeamsKernel) -> None:
    """A call is a trigger, and its answer is the child's result: neither goes to a team that was not let in."""
    a = await (await teams.team("teama")).attach()
    b = await (await teams.team("teamb")).attach()
    await b.introduce([job("b.job"), job("b.jog")])
    unknown = [{**CALLS[0], "target_job_id": "b.jo"}]
    await a.introduce([job("a.call", steps=CALLS), job("a.unknown", steps=unknown)])
    told = []
    for job_id in ("a.call", "a.unknown"):
        ended = await teams.reaches(await teams.run(job_id), RunState.FAILED)
        assert ended.run.reason is not None
        assert ended.run.reason.code == "unknown_job"
        told.append(ended.run.reason.message)
    assert told[0].replace("b.job", "b.jo") == told[1]
    assert '[host] accept_calls_from = ["teama"]' in told[0]
    assert "b.jog" not in "".join(told)
    own = await teams.run("b.jog")
    assert (await b.order()).run_id == own
    await b.introduce([job("b.job"), job("b.jog")], accept_calls_from=["teama"])
    run_id = await teams.run("a.call", params_json=b'{"asked": "${SECRET}"}')
    letter = await b.letter(2)
    assert (set(letter.literal_kwargs), set(letter.literal_params)) == ({"given", "asked"},) * 2
    await b.report(letter.attempt_key, started(), succeeded())
    child = letter.run_id
    await teams.reaches(run_id, RunState.SUCCEEDED)
    await teams.client.ReplayRun(kernel.ReplayRunRequest(run_id=child), timeout=10)
    assert set((await b.letter(3)).literal_kwargs) == {"given", "asked"}


async def test_calls_within_a_host_keep_the_origin_of_values(teams: TeamsKernel) -> None:
    """V6: a job's file, a preset and a step's params are the host's own; what the client sent stays literal below."""
    b = await (await teams.team("teamb")).attach()
    preset = {"name": "p", "params": {"preset": "${X}", "both": "${X}"}}
    middle = [{**CALLS[0], "target_job_id": "b.middle"}]
    await b.introduce(
        [
            job("b.top", steps=middle, params={"top": "${X}"}, presets=[preset]),
            job("b.middle", steps=[{**CALLS[0], "params": {"step": "${X}"}}], params={"middle": "${X}"}),
            job("b.job", params={"own": "${X}"}),
        ]
    )
    await teams.run("b.top", preset="p", params_json=b'{"asked": "${X}", "both": "${X}"}')
    letter = await b.letter()
    assert (set(letter.literal_kwargs), set(letter.literal_params)) == ({"asked", "both"},) * 2
    assert all(name in letter.params_json.decode() for name in ("top", "middle", "own", "step", "given", "preset"))
    await b.report(letter.attempt_key, started(), succeeded())
    await teams.reaches(letter.run_id, RunState.SUCCEEDED)
    again = kernel.ReplayRunRequest(run_id=letter.run_id, params_json=b'{"step": "${Y}"}')
    await teams.client.ReplayRun(again, timeout=10)
    assert set((await b.letter(2)).literal_kwargs) == {"asked", "both", "step"}


async def _forget(teams: TeamsKernel, team: Team) -> None:
    await team.leave()
    async with asyncio.timeout(PATIENCE):
        while teams.sessions.of_host(team.host):
            await asyncio.sleep(0.01)
    await teams.client.ForgetHost(kernel.ForgetHostRequest(host=team.host), timeout=10)


async def _done(teams: TeamsKernel, team: Team, job_id: str, count: int = 1) -> str:
    """Run a job and return the run's id."""
    run_id = await teams.run(job_id)
    await team.report((await team.order(count)).attempt_key, started(), succeeded())
    await teams.reaches(run_id, RunState.SUCCEEDED)
    return run_id


async def _replay_refused(teams: TeamsKernel, run_id: str) -> None:
    values = [run_pb2.StepValues(step="one", op_kwargs_json=b'{"cmd": "id"}')]
    for changes in ([], values):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await teams.client.ReplayRun(kernel.ReplayRunRequest(run_id=run_id, step_values=changes), timeout=10)
        assert reason_of(caught.value) == "JOB_DISABLED"
        assert "when the job belonged to another host" in (caught.value.details() or "")
        assert "trigger the job as it is now" in (caught.value.details() or "")


async def test_a_run_of_an_id_that_another_host_has_now_is_not_replayed_there(teams: TeamsKernel) -> None:
    """The old owner's definition, code and values are not run by the new one, on whichever host they ran."""
    a, b = await _two(teams, accepts=True)
    wild = [{"name": "one", "callable": "subprocess:getoutput", "op_kwargs": {"cmd": "${SECRET}"}}]
    await a.introduce(
        [job("b.nightly", steps=wild), job("b.aimed", host="teamb")], offers=("subprocess:getoutput", "m:f")
    )
    runs = [await _done(teams, a, "b.nightly"), await _done(teams, b, "b.aimed")]
    await _forget(teams, a)
    # While nobody has the id, what ran on its own host may wait for that one; what was let in elsewhere may not.
    await _replay_refused(teams, runs[1])
    await b.introduce([job("b.job"), job("b.nightly"), job("b.aimed")], accept_jobs_from=["teama"])
    for run_id in runs:
        await _replay_refused(teams, run_id)
    mine = await _done(teams, b, "b.nightly", 2)
    assert b.orders[1].run_id == mine
    await teams.client.ReplayRun(kernel.ReplayRunRequest(run_id=mine), timeout=10)
    assert (await b.order(3)).callable == "m:f"


async def test_a_run_of_a_job_that_its_owner_moved_is_replayed_where_it_is_now(teams: TeamsKernel) -> None:
    """The definition is of the host that has the id, wherever it ran; the kernel's own file runs none of a host's."""
    a, b = await _two(teams, accepts=True)
    await a.introduce([job("a.moves")])
    at_a = await _done(teams, a, "a.moves")
    await a.introduce([job("a.moves", host="teamb")])
    at_b = await _done(teams, b, "a.moves")
    await teams.client.ReplayRun(kernel.ReplayRunRequest(run_id=at_a), timeout=10)
    key = (await b.order(2)).attempt_key
    await b.report(key, started(), succeeded())
    await a.introduce([job("a.moves")])
    replay = await teams.client.ReplayRun(kernel.ReplayRunRequest(run_id=at_b), timeout=10)
    await a.report((await a.order(2)).attempt_key, started(), succeeded())
    await teams.reaches(replay.run_id, RunState.SUCCEEDED)
    await _forget(teams, a)
    teams.jobs_file = teams.directory / "jobs.toml"
    teams.jobs_file.write_text('[[jobs]]\nid = "a.moves"\nhost = "teamb"\n[[jobs.steps]]\ncallable = "m:f"\n')
    await teams.restart()
    for run_id in (at_a, at_b, replay.run_id):
        await _replay_refused(teams, run_id)
