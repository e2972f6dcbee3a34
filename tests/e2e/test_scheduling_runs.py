"""Runs from a jobs.toml to their end: layers, switches, retries, calls, bounds, replays and keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

import pytest
from project_system import ProjectSystem, open_system

from nomaflow.client import TriggerOrder
from real_system import eventually

pytestmark = pytest.mark.e2e

JOBS = """
[meta.retention]
days = 30
keep_last_per_job = 500

[[jobs]]
id = "layers"
log_level = "WARNING"
overlap = "allow"
params = { rows = 1, day = "job" }
step_defaults = { timeout_seconds = 30, op_kwargs = { rows = 2, day = "defaults" } }
  [[jobs.presets]]
  name = "p"
  log_level = "DEBUG"
  params = { day = "preset" }
  op_kwargs = { second = { rows = 5 } }
  steps = { third = true }
  [[jobs.steps]]
  name = "first"
  callable = "team.code:count"
  [[jobs.steps]]
  name = "second"
  callable = "team.code:count"
  op_kwargs = { rows = 3 }
  [[jobs.steps]]
  name = "third"
  enabled = false
  callable = "team.code:count"

[[jobs]]
id = "env"
  [[jobs.steps]]
  callable = "team.code:home"
  op_kwargs = { where = "${HOME_OF_TEST}/${NOT_SET_HERE:-x}" }

[[jobs]]
id = "strict"
  [[jobs.steps]]
  callable = "team.code:strict"

[[jobs]]
id = "failing"
  [[jobs.steps]]
  name = "one"
  callable = "team.code:count"
  [[jobs.steps]]
  name = "two"
  callable = "team.code:fail"
  op_kwargs = { times = 99 }
  [[jobs.steps]]
  name = "three"
  callable = "team.code:count"

[[jobs]]
id = "retried"
retry = { attempts = 3, backoff = "exponential", base_seconds = 0.05, max_seconds = 1, retry_on = ["ConnectionError"] }
  [[jobs.steps]]
  callable = "team.code:fail"
  op_kwargs = { times = 2 }

[[jobs]]
id = "slow-step"
  [[jobs.steps]]
  callable = "team.code:sleep"
  timeout_seconds = 0.3

[[jobs]]
id = "slow-job"
timeout_seconds = 0.3
retry = { attempts = 3, base_seconds = 0 }
  [[jobs.steps]]
  callable = "team.code:sleep"

[[jobs]]
id = "parent"
overlap = "queue"
  [[jobs.steps]]
  type = "call_job"
  name = "call"
  target_job_id = "child"
  timeout_seconds = 20
  [[jobs.steps]]
  name = "after"
  callable = "team.code:count"

[[jobs]]
id = "child"
  [[jobs.steps]]
  callable = "team.code:count"
  op_kwargs = { rows = 7 }

[[jobs]]
id = "hasty"
  [[jobs.steps]]
  type = "call_job"
  target_job_id = "held"
  timeout_seconds = 0.3

[[jobs]]
id = "held"
  [[jobs.steps]]
  callable = "team.code:wait_for"
  op_kwargs = { file = "@FOLDER@/held" }

[[jobs]]
id = "calls-held"
  [[jobs.steps]]
  name = "call"
  type = "call_job"
  target_job_id = "held"

[[jobs]]
id = "two-at-once"
overlap = "allow"
max_parallel = 2
  [[jobs.steps]]
  callable = "team.code:wait_for"
  op_kwargs = { file = "@FOLDER@/two" }

[[jobs]]
id = "dying"
  [[jobs.steps]]
  callable = "team.code:die"
  isolation = "exclusive"
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectSystem]:
    """A kernel and a host for all tests of this file."""
    folder = tmp_path_factory.mktemp("runs")
    for opened in open_system(folder, forks_templates=True):
        opened.write(JOBS.replace("@FOLDER@", str(folder)))
        (folder / "nomaflow.toml").write_text('[host]\nname = "team"\nmax_parallel = 4\n')
        opened.start_kernel()
        opened.start_host()
        eventually(opened.jobs)
        yield opened


def test_the_layers_lie_in_their_order_and_are_kept(system: ProjectSystem) -> None:
    """job.params < step.op_kwargs < preset < run params < run op_kwargs; switches and level likewise."""
    plain = system.ask("run", "layers", "--wait")
    assert [(step["state"], step["rows_affected"], step["extras"].get("day")) for step in plain["steps"]] == [
        ("SUCCEEDED", 2, "defaults"),
        ("SUCCEEDED", 3, "defaults"),
        ("SKIPPED", None, None),
    ]
    assert plain["steps"][2]["reason"] == "disabled"
    assert (plain["rows_affected"], plain["steps"][0]["extras"]["level"]) == (5, "WARNING")
    preset = system.ask("run", "layers", "--preset", "p", "-p", "rows=9", "--step", "first=off", "--wait")
    assert [(step["state"], step["rows_affected"], step["extras"].get("day")) for step in preset["steps"]] == [
        ("SKIPPED", None, None),
        ("SUCCEEDED", 9, "preset"),
        ("SUCCEEDED", 9, "preset"),
    ]
    assert (preset["params"], preset["log_level"]) == ({"rows": 9, "day": "preset"}, "DEBUG")
    lines = system.cli("logs", preset["run_id"], "-o", "json").out.splitlines()
    assert "counting" in [json.loads(line)["message"] for line in lines]
    last = system.ask(
        *("run", "layers", "--preset", "p", "-p", 'day="run"', "--op-kwarg", 'second.day="op"', "--log-level", "error"),
        "--wait",
    )
    assert [step["extras"].get("day") for step in last["steps"]] == ["run", "op", "run"]
    assert system.ask("show", last["run_id"]) == last
    assert system.cli("logs", last["run_id"], "-o", "json").out == ""


def test_environment_is_resolved_in_the_host(system: ProjectSystem) -> None:
    """The kernel keeps the reference; the step gets the host's value and the default of what is unset."""
    run = system.ask("run", "env", "--wait")
    assert run["steps"][0]["extras"] == {"where": "/h/x"}
    [step] = system.ask("job", "env")["definition"]["steps"]
    assert step["op_kwargs"] == {"where": "${HOME_OF_TEST}/${NOT_SET_HERE:-x}"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "layres"), "did you mean 'layers'"),
        (("run", "layers", "--preset", "q"), "has no preset 'q'; it has 'p'"),
        (("run", "layers", "--step", "fist=off"), "did you mean 'first'"),
        (("run", "strict", "-p", "row=1"), "no enabled step takes the param 'row'"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_the_way_out(
    system: ProjectSystem, arguments: tuple[str, ...], said: str
) -> None:
    """An invalid request is refused before a run exists, with exit code 2."""
    assert said in system.cli(*arguments, code=2).err


def test_a_failure_skips_the_rest_and_a_replay_goes_on_from_there(system: ProjectSystem) -> None:
    """The failed step's reason is the run's; --from-failed and --from-step take earlier outputs over."""
    failed = system.ask("run", "failing", "--op-kwarg", "one.rows=4", "--wait", code=1)
    assert [(step["state"], step["reason"]) for step in failed["steps"]] == [
        ("SUCCEEDED", None),
        ("FAILED", "step_failed"),
        ("SKIPPED", "earlier_step_failed"),
    ]
    assert (failed["state"], failed["reason"]) == ("FAILED", "step_failed")
    assert "try 1" in failed["error"]
    again = system.ask("replay", failed["run_id"], "--from-failed", "--op-kwarg", "two.times=0", "--wait")
    assert [(step["state"], step["reason"]) for step in again["steps"]] == [
        ("SUCCEEDED", "reused"),
        ("SUCCEEDED", None),
        ("SUCCEEDED", None),
    ]
    assert (again["replay_of"], again["trigger"]["kind"], again["rows_affected"]) == (failed["run_id"], "replay", 6)
    late = system.ask("replay", failed["run_id"], "--from-step", "three", "-p", 'day="x"', "--wait")
    assert [(step["state"], step["reason"]) for step in late["steps"]] == [
        ("SUCCEEDED", "reused"),
        ("SKIPPED", "before_replay"),
        ("SUCCEEDED", None),
    ]
    assert (late["steps"][2]["extras"]["day"], late["steps"][2]["extras"]["before"]) == ("x", 4)
    assert "did you mean 'three'" in system.cli("replay", failed["run_id"], "--from-step", "thre", code=2).err


def test_retries_follow_the_exception_s_name(system: ProjectSystem) -> None:
    """A subclass of what retry_on names is tried again with growing delays, another exception is not."""
    run = system.ask("run", "retried", "--wait")
    [step] = run["steps"]
    assert [each["state"] for each in step["attempts"]] == ["FAILED", "FAILED", "SUCCEEDED"]
    assert (run["rows_affected"], step["attempt"]) == (3, 3)
    other = system.ask("run", "retried", "--op-kwarg", 'fail.error="Value"', "--wait", code=1)
    assert len(other["steps"][0]["attempts"]) == 1


def test_timeouts_of_step_and_job(system: ProjectSystem) -> None:
    """Each with its own code; the job's is not retried."""
    step = system.ask("run", "slow-step", "--wait", code=1)
    job = system.ask("run", "slow-job", "--wait", code=1)
    assert (step["reason"], job["reason"]) == ("timed_out", "job_timed_out")
    assert len(job["steps"][0]["attempts"]) == 1


def test_a_dead_worker_is_told_in_plain_words(system: ProjectSystem) -> None:
    """A dead worker is reported as the code's failure, with the exit code."""
    run = system.ask("run", "dying", "--wait", code=1)
    assert run["reason"] == "worker_died"
    assert "7" in run["reason_message"]


def test_a_call_is_linked_both_ways(system: ProjectSystem) -> None:
    """The parent's step names the child, the child names its ancestors; params and level go down, rows come up."""
    parent = system.ask("run", "parent", "-p", 'day="mon"', "--log-level", "DEBUG", "--wait")
    child_id = parent["steps"][0]["attempts"][-1]["child_run_id"]
    child = system.ask("show", child_id)
    assert child["parent_chain"] == [{"job_id": "parent", "run_id": parent["run_id"]}]
    assert (child["trigger"]["kind"], child["trigger"]["by"]) == ("call_job", "parent/call")
    extras = child["steps"][0]["extras"]
    assert (extras["day"], extras["level"], extras["chain"]) == ("mon", "DEBUG", ["parent"])
    assert [step["rows_affected"] for step in parent["steps"]] == [7, 1]
    assert (parent["rows_affected"], parent["steps"][1]["extras"]["before"]) == (8, 7)
    assert child_id in system.cli("show", parent["run_id"]).out
    assert parent["run_id"] in system.cli("show", child_id).out


def test_queued_parents_follow_one_another(system: ProjectSystem) -> None:
    """Queued runs with a call_job first do not wait for a host that is never needed."""
    with system.client() as client:
        runs = [client.trigger("parent").run_id for _ in range(3)]
        ended = [client.wait(run_id) for run_id in runs]
    assert [run.state for run in ended] == ["SUCCEEDED"] * 3
    assert all(before.finished_at <= after.started_at for before, after in pairwise(ended))


def test_overlap_and_calls_of_a_job_that_is_active(system: ProjectSystem) -> None:
    """A second run and a call are held off with the reason; --overlap allow insists; a cancel goes down the chain."""
    first = system.ask("run", "held")
    system.until(first["run_id"], "RUNNING")
    second = system.ask("run", "held", code=4)
    assert (second["state"], second["reason"]) == ("SKIPPED", "overlap")
    assert first["run_id"] in second["reason_message"]
    call = system.ask("run", "calls-held", "--wait", code=1)
    assert (call["reason"], call["steps"][0]["reason"]) == ("child_not_run", "child_not_run")
    insisted = system.ask("run", "held", "--overlap", "allow")
    system.until(insisted["run_id"], "RUNNING")
    for run in (first, insisted):
        system.ask("cancel", run["run_id"], "--wait")
    parent = system.ask("run", "calls-held")
    child = eventually(lambda: system.run(parent["run_id"]).steps[0].last.child_run_id)
    system.until(child, "RUNNING")
    assert system.ask("cancel", parent["run_id"], "--why", "enough", "--wait")["state"] == "CANCELED"
    canceled = system.run(child)
    assert (canceled.state, canceled.reason.code) == ("CANCELED", "canceled_by_parent")


def test_a_call_has_a_time_limit(system: ProjectSystem) -> None:
    """The step fails timed_out once its child has stopped."""
    run = system.ask("run", "hasty", "--wait", code=1)
    child = system.run(run["steps"][0]["attempts"][-1]["child_run_id"])
    assert (run["reason"], child.state) == ("timed_out", "CANCELED")


def test_the_bounds_of_job_and_host(system: ProjectSystem) -> None:
    """max_parallel of the job lets two run, that of the host four of any job; the reason says which it is."""
    with system.client() as client:
        runs = [client.trigger("two-at-once").run_id for _ in range(3)]
        for run_id in runs[:2]:
            system.until(run_id, "RUNNING")
        third = client.get_run(runs[2])
        assert (third.state, third.reason.code) == ("QUEUED", "waiting_for_slot")
        assert "(max_parallel)" in third.reason.message
        more = [client.trigger(TriggerOrder(job_id="held", overlap="allow")).run_id for _ in range(2)]
        for run_id in more:
            system.until(run_id, "RUNNING")
        waiting = client.trigger("strict").run_id
        reason = client.get_run(waiting).reason
        assert reason.message == "host 'team' is already running 4 steps (its max_parallel)"
        assert client.get_job("strict").why_not_running == reason.message
        (system.project / "two").touch()
        (system.project / "held").touch()
        assert {client.wait(run_id).state for run_id in (*runs, *more, waiting)} == {"SUCCEEDED"}
        (system.project / "held").unlink()


def test_a_key_is_one_run(system: ProjectSystem) -> None:
    """The same key with the same request answers with the same run, with another request or for another job it is refused."""
    first = system.ask("run", "layers", "--key", "k1", "-p", "rows=1", "--wait")
    again = system.ask("run", "layers", "--key", "k1", "-p", "rows=1", "--wait")
    assert again["run_id"] == first["run_id"]
    assert "with another request" in system.cli("run", "layers", "--key", "k1", "-p", "rows=2", code=2).err
    assert first["run_id"] in system.cli("run", "strict", "--key", "k1", code=2).err
    replays = [system.ask("replay", first["run_id"], "--key", "r1", "--wait")["run_id"] for _ in range(2)]
    assert replays[0] == replays[1] != first["run_id"]
