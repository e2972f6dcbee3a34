"""The catalogue: what a malformed job disables, what a save or a reload changes, and who owns an id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from project_system import CODE, ProjectSystem, open_system

from nomaflow.client import InvalidRequest, Refused, TriggerOrder
from real_system import eventually

pytestmark = pytest.mark.e2e

GOOD = """
[[jobs]]
id = "good"
  [[jobs.steps]]
  name = "one"
  callable = "team.code:wait_for"
  op_kwargs = { file = "@FOLDER@/go" }
  [[jobs.steps]]
  name = "two"
  callable = "team.code:count"
  op_kwargs = { rows = 2 }
"""
BROKEN = """
[[jobs]]
id = "strange-step"
  [[jobs.steps]]
  type = "pyhton"
  callable = "team.code:count"

[[jobs]]
id = "never"
schedule = "0 0 30 2 *"
  [[jobs.steps]]
  callable = "team.code:count"

[[jobs]]
id = "nowhere"
schedule = "0 0 * * *"
timezone = "Europe/Pariss"
  [[jobs.steps]]
  callable = "team.code:count"

[[jobs]]
id = "ring-a"
  [[jobs.steps]]
  type = "call_job"
  target_job_id = "ring-b"

[[jobs]]
id = "ring-b"
  [[jobs.steps]]
  type = "call_job"
  target_job_id = "ring-a"

[[jobs]]
id = "bad-default"
step_defaults = { timeout = 5 }
  [[jobs.steps]]
  callable = "team.code:count"
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[ProjectSystem]:
    """A system whose project has one good job."""
    for opened in open_system(tmp_path, forks_templates=True):
        opened.write(GOOD.replace("@FOLDER@", str(tmp_path)))
        (tmp_path / "nomaflow.toml").write_text('[host]\nname = "team"\n')
        yield opened


def test_malformed_jobs_disable_themselves_and_say_why(system: ProjectSystem) -> None:
    """Each names its mistake and the way out, in ``check``, ``jobs`` and ``job`` alike; the good job runs."""
    with (system.project / "jobs.toml").open("a") as jobs:
        jobs.write(BROKEN)
    (system.project / "go").touch()
    system.start_kernel()
    system.start_host()
    known = eventually(system.jobs)
    assert {name for name, job in known.items() if job.valid} == {"good"}
    said = {name: job.problems[0].message for name, job in known.items() if not job.valid}
    assert said["strange-step"] == "unknown step type 'pyhton', expected one of call_job, python"
    assert "no date ever matches it" in said["never"]
    assert "no zone of this name is known" in said["nowhere"]
    assert said["ring-a"] == "the job calls itself: ring-a → ring-b → ring-a"
    [problem] = known["bad-default"].problems
    assert problem.path == "jobs[6].step_defaults.timeout"
    checked = {job["job_id"]: job for job in system.ask("check", code=1)["jobs"]}
    assert {name for name, job in checked.items() if job["valid"]} == {"good"}
    assert "did you mean 'python'" in system.cli("job", "strange-step").out
    assert "ring-a → ring-b → ring-a" in system.cli("run", "ring-a", code=2).err
    assert system.ask("run", "good", "--wait")["rows_affected"] == 2


FORBIDDEN = {
    "path": "../outside:f",
    "globals": "outside:f.__globals__",
    "dunder": "outside:__import__",
    "homoglyph": "\u043eutside:f",
    "dots": "." * 10_000,
}


def test_a_reference_that_reaches_for_what_is_no_step_imports_nothing(system: ProjectSystem) -> None:
    """A13: host, kernel and check disable its job by name, and no client can name a callable in its place."""
    outside, mark = system.project / "lib" / "outside.py", system.project / "imported"
    outside.parent.mkdir()
    outside.write_text(f"open({str(mark)!r}, 'w')\n\ndef f(**_):\n    return 1\n")
    (system.project / "outside.py").write_text(outside.read_text())
    job = '[[jobs]]\nid = "%s"\nsteps = [{ name = "one", callable = "%s" }]\n'
    good = job % ("good", "team.code:count")
    system.write(good + "".join(job % each for each in FORBIDDEN.items()))
    system.start_kernel()
    system.launch_host("host", system.project, environ={"PYTHONPATH": str(outside.parent)})
    jobs = eventually(lambda: found if len(found := system.jobs()) == 6 else None)
    checked = {each["job_id"]: each for each in system.ask("check", code=1)["jobs"]}
    for name in FORBIDDEN:
        assert [problem.code for problem in jobs[name].problems] == ["bad_callable"], name
        assert [problem["code"] for problem in checked[name]["problems"]] == ["bad_callable"], name
        assert len(jobs[name].problems[0].message) < 300
        with pytest.raises(Refused, match=name):
            system.api.trigger(name)
    for order in (
        TriggerOrder(job_id="outside:f"),
        TriggerOrder(job_id="good", op_kwargs={"outside:f": {"a": 1}}),
        TriggerOrder(job_id="good", steps={"outside:f": True}),
    ):
        with pytest.raises(InvalidRequest):
            system.api.trigger(order)
    named = TriggerOrder(job_id="good", params={"callable": "outside:f"}, op_kwargs={"one": {"type": "python"}})
    [step] = system.until(system.api.trigger(named).run_id, "SUCCEEDED").steps
    assert step.callable == "team.code:count"
    assert not mark.exists()
    system.write(good + job % ("reached", "outside:f"))
    system.cli("reload")
    eventually(mark.exists)


def test_a_run_in_flight_keeps_its_definition_through_a_save(system: ProjectSystem) -> None:
    """A saved jobs.toml takes effect by itself; running steps continue as they began, removed jobs stay in history."""
    system.start_kernel()
    system.start_host("--watch")
    eventually(system.jobs)
    run = system.ask("run", "good")
    system.until(run["run_id"], "RUNNING")
    text = GOOD.replace("@FOLDER@", str(system.project)).replace("rows = 2", "rows = 5")
    system.write(text + text.replace('"good"', '"fresh"'))
    eventually(lambda: "fresh" in system.jobs())
    (system.project / "go").touch()
    assert system.until(run["run_id"], "SUCCEEDED").rows_affected == 2
    assert system.ask("run", "good", "--wait")["rows_affected"] == 5
    assert system.ask("replay", run["run_id"], "--wait")["rows_affected"] == 2
    system.write(text.replace('"good"', '"fresh"'))
    eventually(lambda: system.jobs()["good"].removed)
    assert system.jobs()["good"].why_not_running == "host 'team' no longer has the job"
    assert "no longer has it" in system.cli("run", "good", code=2).err
    assert len(system.ask("runs", "good")["runs"]) == 3
    assert system.ask("replay", run["run_id"], "--wait")["state"] == "SUCCEEDED"
    system.write(
        text.replace('"good"', '"fresh"'), code=CODE.replace('"rows_affected": rows', '"rows_affected": -rows')
    )
    eventually(lambda: system.ask("run", "fresh", "--wait")["rows_affected"] == -5)


def test_a_reload_takes_saved_jobs_in_and_survives_the_kernel(system: ProjectSystem) -> None:
    """A save without --watch changes nothing until ``reload``; the kernel keeps it after a kill, even without hosts."""
    system.start_kernel()
    system.start_host()
    eventually(system.jobs)
    text = GOOD.replace("@FOLDER@", str(system.project))
    system.write(text + text.replace('"good"', '"fresh"') + '\n[[jobs]]\nid = "bad"\n')
    [outcome] = system.ask("reload", code=1)["instances"]  # it says why a job is disabled
    assert outcome["accepted"] is True
    assert [each["message"].partition(":")[0] for each in outcome["problems"]] == ["job 'bad' is disabled"]
    before = {name: (job.valid, job.digest) for name, job in system.jobs().items()}
    assert {name: valid for name, (valid, _) in before.items()} == {"good": True, "fresh": True, "bad": False}
    system.kill("kernel")
    system.stop("host")
    system.start_kernel()
    assert {name: (job.valid, job.digest) for name, job in system.jobs().items()} == before


def test_the_kernel_s_own_file_is_read_when_it_is_saved(system: ProjectSystem) -> None:
    """A job of it runs on the host that it names; one without a host says what is missing; ``reload`` reads it too."""
    own = system.project / "central" / "jobs.toml"
    own.parent.mkdir()
    text = '[[jobs]]\nid = "central"\nhost = "team"\n[[jobs.steps]]\ncallable = "team.code:count"\n'
    own.write_text(text)
    system.start_kernel("--jobs", str(own))
    assert list(system.jobs()) == ["central"]
    assert system.jobs()["central"].why_not_running == "no instance of host 'team' takes work"
    system.start_host()
    eventually(lambda: "good" in system.jobs())
    assert system.ask("run", "central", "--wait")["rows_affected"] == 1
    saved = own.with_suffix(".new")
    saved.write_text(text + text.replace('"central"', '"late"').replace('host = "team"', ""))
    saved.rename(own)
    late = eventually(lambda: system.jobs().get("late"))
    assert "needs the key 'host'" in late.problems[0].message
    own.write_text(text.replace('"central"', '"good"') + text)
    eventually(lambda: "late" in system.jobs() and system.jobs()["late"].removed)
    both = [job for job in system.ask("jobs")["jobs"] if job["job_id"] == "good"]
    assert [(job["valid"], [problem["code"] for problem in job["problems"]]) for job in both] == [
        (True, []),
        (False, ["id_of_another_host"]),
    ]
    own.write_text("[[jobs")
    [broken, _] = system.ask("reload", code=1)["instances"]
    assert (broken["incarnation"], broken["accepted"]) == ("", False)
    assert (system.jobs()["central"].valid, system.jobs()["central"].kept) == (True, True)
    assert "central/jobs.toml" in system.cli("jobs").out


def test_an_id_belongs_to_its_host_until_that_is_forgotten(system: ProjectSystem) -> None:
    """The second host's job is disabled and says whose the id is; an attached host cannot be forgotten."""
    other = system.project / "other-team"
    second = ProjectSystem(project=other)
    second.write(GOOD.replace("@FOLDER@", str(system.project)) + GOOD.replace('"good"', '"own"'))
    (other / "nomaflow.toml").write_text('[host]\nname = "second"\n')
    (system.project / "go").touch()
    system.start_kernel()
    system.start_host()
    address = (system.project / ".nomaflow" / "address").read_text().strip()
    system.start_host("--kernel", address, project=other, name="second")
    eventually(lambda: "own" in system.jobs())
    foreign = [job for job in system.ask("jobs")["jobs"] if job["job_id"] == "good" and not job["valid"]]
    assert [job["host"] for job in foreign] == ["second"]
    assert foreign[0]["problems"][0]["code"] == "id_of_another_host"
    refused = system.cli("hosts", "forget", "team", code=None)
    assert refused.code != 0
    assert "team" in refused.err
    system.stop("host")
    eventually(lambda: [host["state"] for host in system.hosts()] == ["ATTACHED", "DETACHED"])
    assert system.ask("hosts", "forget", "team")["released_job_ids"] == ["good"]
    assert [host["name"] for host in system.hosts()] == ["second"]
    assert system.cli("run", "good", code=None).code != 0
    assert "nomaflow reload second" in system.cli("jobs").out
    system.ask("reload", "second")
    eventually(lambda: system.jobs()["good"].valid)
    run = system.ask("run", "good", "--wait")
    assert (run["state"], run["host"]) == ("SUCCEEDED", "second")
