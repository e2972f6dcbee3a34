"""Values of clients on real processes: what a person or a program sends reaches the callable as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from project_system import ProjectSystem, open_system

from nomaflow.client import ReplayOrder, TriggerOrder
from nomaflow.client.errors import InvalidRequest
from real_system import eventually

pytestmark = pytest.mark.e2e

CODE = '''"""A step that says what it was given."""


async def say(*, ctx, fail: int = 0, **values):
    if ctx.attempt <= fail:
        raise ConnectionError("once more")
    values.pop("connectors", None), values.pop("settings", None)
    return {"values": values, "params": dict(ctx.params)}


async def port(*, number: int = 0):
    return number
'''
JOBS = """
[[jobs]]
id = "look"
params = { of_job = "${HOME_OF_TEST}" }
retry = { attempts = 2, base_seconds = 0 }
  [[jobs.presets]]
  name = "filed"
  params = { of_preset = "${HOME_OF_TEST}" }
  op_kwargs = { says = { kwarg_of_preset = "${HOME_OF_TEST}" } }
  [[jobs.steps]]
  name = "says"
  callable = "team.code:say"
  op_kwargs = { of_step = "${HOME_OF_TEST}" }

[[jobs]]
id = "parent"
params = { of_parent = "${HOME_OF_TEST}" }
  [[jobs.steps]]
  name = "call"
  type = "call_job"
  target_job_id = "look"
  params = { of_call = "${HOME_OF_TEST}" }

[[jobs]]
id = "numbers"
  [[jobs.steps]]
  name = "it"
  callable = "team.code:port"
"""
FILED = {"of_job": "/h", "of_step": "/h"}
SENT = "${HOME_OF_TEST} $${HOME_OF_TEST} ${NOT_SET_HERE}"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectSystem]:
    """A kernel and a host for all tests of this file."""
    for opened in open_system(tmp_path_factory.mktemp("values"), forks_templates=True):
        opened.write(JOBS, code=CODE)
        opened.start_kernel()
        opened.start_host()
        eventually(opened.jobs)
        yield opened


def _said(system: ProjectSystem, run_id: str) -> tuple[dict, dict]:
    run = system.until(run_id, "SUCCEEDED", "FAILED")
    last = run.steps[0].last
    assert run.state == "SUCCEEDED", last.error
    return last.extras["values"], last.extras["params"]


def test_a_reference_in_a_trigger_is_text(system: ProjectSystem) -> None:
    """V6: params and op_kwargs of a trigger stay what they are; the file's own values and its presets are resolved."""
    assert _said(system, system.api.trigger(TriggerOrder(job_id="look")).run_id) == (FILED, {"of_job": "/h"})
    order = TriggerOrder(
        job_id="look", preset="filed", params={"asked": SENT}, op_kwargs={"says": {"of_step": SENT, "list": [SENT]}}
    )
    values, params = _said(system, system.api.trigger(order).run_id)
    assert values == {
        "of_job": "/h", "of_preset": "/h", "kwarg_of_preset": "/h",
        "asked": SENT, "of_step": SENT, "list": [SENT],
    }  # fmt: skip
    assert params == {"of_job": "/h", "of_preset": "/h", "asked": SENT}


def test_the_command_line_sends_text_too(system: ProjectSystem) -> None:
    """`nomaflow run -p` is a client like others."""
    run = system.ask("run", "look", "-p", f"of_job={SENT}", "--op-kwarg", f"says.deep={SENT}", "--wait")
    assert run["steps"][0]["extras"]["values"] == {"of_job": SENT, "of_step": "/h", "deep": SENT}


def test_retries_and_replays_keep_the_origin(system: ProjectSystem) -> None:
    """The second attempt, a replay, a replay with other values, and a kernel that was killed meanwhile: all the same."""
    order = TriggerOrder(job_id="look", params={"fail": 1, "asked": SENT})
    run_id = system.api.trigger(order).run_id
    expected = {**FILED, "asked": SENT}
    assert _said(system, run_id)[0] == expected
    assert _said(system, system.api.replay(run_id).run_id)[0] == expected
    changed = system.api.replay(ReplayOrder(run_id=run_id, op_kwargs={"says": {"of_step": SENT}})).run_id
    assert _said(system, changed)[0] == {**expected, "of_step": SENT}
    system.kernel.kill()
    system.start_kernel()
    eventually(lambda: any(host.state == "ATTACHED" for host in system.api.list_hosts()))
    assert _said(system, system.api.replay(changed).run_id)[0] == {**expected, "of_step": SENT}


def test_a_call_passes_the_origin_on(system: ProjectSystem) -> None:
    """Values of the files stay references on their way to the child of the same host; a client's stay text."""
    run = system.until(system.api.trigger(TriggerOrder(job_id="parent", params={"asked": SENT})).run_id, "SUCCEEDED")
    values, params = _said(system, run.steps[0].last.child_run_id)
    assert values == {**FILED, "of_parent": "/h", "of_call": "/h", "asked": SENT}
    assert params == {"of_job": "/h", "of_parent": "/h", "of_call": "/h", "asked": SENT}
    over = TriggerOrder(job_id="parent", op_kwargs={"call": {"of_call": SENT}})
    run = system.until(system.api.trigger(over).run_id, "SUCCEEDED")
    assert _said(system, run.steps[0].last.child_run_id)[0]["of_call"] == SENT


def test_the_check_of_a_trigger_resolves_nothing(system: ProjectSystem) -> None:
    """A reference where a number is wanted is refused as the text that it is, before anything runs."""
    with pytest.raises(InvalidRequest) as caught:
        system.api.trigger(TriggerOrder(job_id="numbers", params={"number": "${HOME_OF_TEST}"}))
    assert caught.value.reason == "VALUE_INVALID"
    assert "'${HOME_OF_TEST}'" in caught.value.message
    assert "/h" not in caught.value.message


OTHER = """
[[jobs]]
id = "aimed"
host = "HOST"
  [[jobs.steps]]
  callable = "team.code:say"
  op_kwargs = { mine = "${HOME_OF_TEST}" }

[[jobs]]
id = "calls"
  [[jobs.steps]]
  type = "call_job"
  target_job_id = "look"
  params = { mine = "${HOME_OF_TEST}" }
"""


def test_teams_share_jobs_and_values_only_where_the_target_says_so(system: ProjectSystem, tmp_path: Path) -> None:
    """V3, V6: a job of another team is disabled until its target accepts it, and its references are text there."""
    target = next(host.name for host in system.api.list_hosts())
    other = tmp_path / "other"
    other.mkdir()
    (other / "jobs.toml").write_text(OTHER.replace("HOST", target))
    checked = system.cli("check", str(other), code=0).out
    assert f"host '{target}' is to run it, and does so only if it accepts jobs of host 'other'" in checked
    system.start_host("--kernel", system.kernel_address, project=other, name="other")
    job = eventually(lambda: system.jobs().get("aimed"))
    assert (job.valid, job.host, job.owner) == (False, target, "other")
    assert [problem.code for problem in job.problems] == ["job_not_accepted"]
    shown = system.cli("job", "aimed").out
    assert f"no host '{target}' accepts jobs of host 'other'" in " ".join(shown.split())
    assert 'accept_jobs_from = ["other"]' in " ".join(shown.split())
    assert "(of other)" in system.cli("jobs", "--all").out
    calls = system.until(system.api.trigger(TriggerOrder(job_id="calls")).run_id, "FAILED")
    assert "accept_calls_from" in calls.steps[0].last.error
    (system.project / "nomaflow.toml").write_text('[host]\naccept_jobs_from = ["other"]\n')
    system.cli("reload", target)
    eventually(lambda: system.jobs()["aimed"].valid)
    values, _ = _said(system, system.api.trigger(TriggerOrder(job_id="aimed")).run_id)
    assert values == {"mine": "${HOME_OF_TEST}"}
    run = system.until(system.api.trigger(TriggerOrder(job_id="calls")).run_id, "SUCCEEDED", "FAILED")
    assert _said(system, run.steps[0].last.child_run_id)[0] == {**FILED, "mine": "${HOME_OF_TEST}"}
    (system.project / "nomaflow.toml").write_text("[host]\naccept_jobs_from = []\n")
    system.cli("reload", target)
    eventually(lambda: not system.jobs()["aimed"].valid)
