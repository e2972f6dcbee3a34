"""call_job on real processes: the values that go down to a child, and what comes back of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from project_system import ProjectSystem, open_system

from nomaflow.client import ClientError, TriggerOrder
from real_system import eventually

pytestmark = pytest.mark.e2e

CODE = '''"""Steps that say what they were given."""

from datetime import date


async def say(*, ctx, apps_id: int = 0, day: str = "none", **_):
    return {"rows_affected": apps_id, "apps_id": apps_id, "day": day, "params": dict(ctx.params)}


async def strict(*, apps_id: int = 0):
    return apps_id


async def dated(*, since: date):
    return {"is": type(since).__name__, "day": since.isoformat()}


async def look(*, ctx, **_):
    called = ctx.previous_step("call")
    return {"run": called.child_run_id, "job": called.child_job_id, "state": called.child_state,
            "rows": called.rows_affected, "day": called.extras["day"]}
'''

JOBS = """
[[jobs]]
id = "parent"
params = { apps_id = 5, day = "parent" }
  [[jobs.presets]]
  name = "nine"
  params = { apps_id = 9 }
  [[jobs.presets]]
  name = "own"
  op_kwargs = { call = { day = "preset-own" } }
  [[jobs.steps]]
  name = "call"
  type = "call_job"
  target_job_id = "child"
  params = { source = "${HOME_OF_TEST}" }
  [[jobs.steps]]
  callable = "team.code:look"

[[jobs]]
id = "child"
params = { apps_id = 2, tenant = "own" }
  [[jobs.steps]]
  name = "says"
  callable = "team.code:say"
  [[jobs.steps]]
  name = "fixed"
  callable = "team.code:say"
  op_kwargs = { day = "fixed" }

[[jobs]]
id = "grandparent"
params = { region = "eu" }
  [[jobs.steps]]
  name = "call"
  type = "call_job"
  target_job_id = "parent"
  params = { apps_id = 7 }

[[jobs]]
id = "wrong"
  [[jobs.steps]]
  name = "call"
  type = "call_job"
  target_job_id = "narrow"
  params = { apps_di = 1 }

[[jobs]]
id = "dated"
  [[jobs.steps]]
  callable = "team.code:dated"

[[jobs]]
id = "narrow"
  [[jobs.steps]]
  callable = "team.code:strict"
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectSystem]:
    """A kernel and a host for all tests of this file."""
    for opened in open_system(tmp_path_factory.mktemp("calls"), forks_templates=True):
        opened.write(JOBS, code=CODE)
        opened.start_kernel()
        opened.start_host()
        eventually(opened.jobs)
        yield opened


def _child(system: ProjectSystem, run: dict) -> dict:
    return system.ask("show", run["steps"][0]["child_run_id"])


def _extras(run: dict) -> list[tuple[int, str]]:
    return [(step["extras"]["apps_id"], step["extras"]["day"]) for step in run["steps"]]


def test_a_child_gets_the_effective_params_of_its_parent(system: ProjectSystem) -> None:
    """Own job params < the parent's job params < its preset's < its run's < the step's own; op_kwargs stay the child's."""
    plain = _child(system, system.ask("run", "parent", "--wait"))
    assert _extras(plain) == [(5, "parent"), (5, "fixed")]
    assert plain["params"] == {"apps_id": 5, "tenant": "own", "day": "parent", "source": "${HOME_OF_TEST}"}
    assert plain["steps"][0]["extras"]["params"]["source"] == "/h"
    assert _extras(_child(system, system.ask("run", "parent", "--preset", "nine", "--wait")))[0] == (9, "parent")
    asked = system.ask("run", "parent", "--preset", "nine", "-p", "apps_id=11", "-p", "day=mon", "--wait")
    assert _extras(_child(system, asked)) == [(11, "mon"), (11, "mon")]
    own = system.ask("run", "parent", "--preset", "own", "-p", "day=mon", "--wait")
    assert _extras(_child(system, own))[0] == (5, "preset-own")
    over = system.ask("run", "parent", "--op-kwarg", "call.source=here", "-p", "source=there", "--wait")
    assert _child(system, over)["params"]["source"] == "here"


def test_values_go_on_to_the_child_of_a_child_and_into_a_replay(system: ProjectSystem) -> None:
    """The first step's values count as run params further down; a replay of the child has the same values."""
    top = system.ask("run", "grandparent", "--wait")
    child = _child(system, _child(system, top))
    assert child["params"] == {
        "apps_id": 7,
        "tenant": "own",
        "day": "parent",
        "region": "eu",
        "source": "${HOME_OF_TEST}",
    }
    assert _extras(child) == [(7, "parent"), (7, "fixed")]
    again = system.ask("replay", child["run_id"], "--wait")
    assert (again["params"], _extras(again)) == (child["params"], _extras(child))


def test_a_later_step_and_the_record_know_the_child(system: ProjectSystem) -> None:
    """previous_step has run, job, state, rows and last extras of the child; show has them too, also after a replay."""
    run = system.ask("run", "parent", "--wait")
    call, look = run["steps"]
    child = system.ask("show", call["child_run_id"])
    assert call["child_job_id"] == child["job_id"] == "child"
    seen = {"run": child["run_id"], "job": "child", "state": "SUCCEEDED", "rows": 10, "day": "fixed"}
    assert look["extras"] == seen
    assert (call["extras"]["child_state"], call["rows_affected"]) == ("SUCCEEDED", 10)
    assert f"ran {child['run_id']} of child" in system.cli("show", run["run_id"]).out
    replay = system.ask("replay", run["run_id"], "--from-step", "look", "--wait")
    assert replay["steps"][1]["extras"] == seen


def test_a_param_that_the_child_does_not_take_is_a_warning(system: ProjectSystem) -> None:
    """The warning names the step's key, the called job and the near match; the job still runs."""
    [problem] = system.ask("job", "wrong")["problems"]
    assert (problem["severity"], problem["code"]) == ("warning", "unused_param")
    assert problem["path"].endswith("steps[0].params.apps_di")
    assert "'narrow' takes the param 'apps_di'" in problem["message"]
    assert "apps_id" in problem["fix"]
    assert system.ask("run", "wrong", "--wait")["state"] == "SUCCEEDED"


def test_a_date_is_typed_at_the_command_line_as_such(system: ProjectSystem) -> None:
    """A text becomes a date as the callable's annotation says; a malformed one is refused before anything runs."""
    run = system.ask("run", "dated", "-p", "since=2026-11-02", "--wait")
    assert run["steps"][0]["extras"] == {"is": "date", "day": "2026-11-02"}
    before = len(system.runs("dated"))
    refused = system.cli("run", "dated", "-p", "since=tuesday", code=None)
    assert refused.code != 0
    assert "since" in refused.err
    assert len(system.runs("dated")) == before


def test_a_request_id_is_not_used_again_for_another_job(system: ProjectSystem) -> None:
    """The same request is the same run; the id of one job's request is refused for another job."""
    order = TriggerOrder(job_id="child", request_id="once")
    first = system.api.trigger(order)
    assert system.api.trigger(order).run_id == first.run_id
    with pytest.raises(ClientError, match="once"):
        system.api.trigger(replace(order, job_id="narrow"))
