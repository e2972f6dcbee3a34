"""Edits that break a project, and a restart of kernel and host upon them: no schedule stops without a visible reason."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from project_system import CODE, ProjectSystem, open_system

from real_system import PATIENCE, eventually

pytestmark = pytest.mark.e2e

JOB = """
[[jobs]]
id = "{id}"
schedule = "* * * * * *"
overlap = "allow"
  [[jobs.steps]]
  callable = "team.code:count"
"""
MAIN, OTHER = JOB.format(id="a"), JOB.format(id="b")
CALLER = '\n[[jobs]]\nid = "caller"\n[[jobs.steps]]\ntype = "call_job"\ntarget_job_id = "a"\n'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectSystem]:
    """A kernel and a host with the jobs a and caller in jobs.toml, b in plugins/x/jobs.toml; a and b fire each second."""
    for opened in open_system(tmp_path_factory.mktemp("restart"), forks_templates=True):
        _restore(opened)
        (opened.project / "nomaflow.toml").write_text('[host]\nname = "team"\n')
        opened.start_kernel()
        opened.start_host()
        yield opened


@pytest.fixture
def system(running: ProjectSystem) -> ProjectSystem:
    """Give each test the project in order, and all jobs firing."""
    _restore(running)
    assert running.api.reload_host("team", force=False)[0].accepted
    running.until_fired("a", "b")
    return running


def _restore(system: ProjectSystem) -> None:
    """Put the files of the project back as they were."""
    system.write(MAIN + CALLER)
    (system.project / "plugins" / "x").mkdir(exist_ok=True)
    (system.project / "plugins" / "x" / "jobs.toml").write_text(OTHER)


def _restart(system: ProjectSystem) -> None:
    system.stop("host")
    system.stop("kernel")
    system.start_kernel()
    system.start_host()


def _is(system: ProjectSystem, job_id: str, question: Callable[[Any], bool]) -> Any:
    """Wait until a question about a job is true, and return the job."""
    return eventually(lambda: job if (job := system.jobs()[job_id]) and question(job) else None)


def _held_rows(system: ProjectSystem, job_id: str, before: set[str]) -> list[Any]:
    """Return the new rows of fires that did not run since the job is held."""
    runs = [run for run in system.runs(job_id) if run.run_id not in before]
    return [run for run in runs if run.reason and run.reason.code == "job_disabled"]


def test_a_broken_jobs_file_stops_no_schedule(system: ProjectSystem) -> None:
    """Last good definitions fire and are marked, even after a restart of both sides; a repair restores everything."""
    main = system.project / "jobs.toml"
    for edit, said in (
        (lambda: main.write_text(MAIN + "[[jobs]]\nid = 'b\n"), "line 9"),
        (main.unlink, "there is no such file, and it had jobs"),
    ):
        edit()
        _restart(system)
        job = _is(
            system,
            "a",
            lambda job, said=said: any(said in f"line {each.line}: {each.message}" for each in job.problems),
        )
        assert job.problems[0].file == "jobs.toml"
        assert (job.valid, job.kept, job.removed, job.held) == (True, True, False, "")
        assert not system.jobs()["b"].kept
        (outcome,) = system.api.reload_host("team", force=False)  # the host itself has never seen the job in order
        assert (outcome.accepted, outcome.complete) == (True, False)
        assert any("'a'" in each.message and "last good definition" in each.message for each in outcome.problems)
        system.until_fired("a")
    page = system.cli("jobs").out
    assert "last good definition" in page
    assert said in page
    assert "the last good one" in system.cli("job", "a").out
    started = system.cli("run", "a")
    assert "job 'a' keeps its last good definition: jobs.toml" in started.out + started.err
    found = {finding["check"]: finding for finding in system.ask("doctor", code=None)["findings"]}
    assert found["runs.kept"]["level"] == "problem"
    main.write_text(MAIN + CALLER)
    system.stop("host")
    system.start_host()
    assert _is(system, "a", lambda job: not job.kept).problems == ()
    system.until_fired("a", "b")


def test_a_repair_after_a_restart_names_what_it_removes(system: ProjectSystem) -> None:
    """The host has started upon a broken file, so that it has never seen the jobs; the answer names them all the same."""
    main = system.project / "jobs.toml"
    main.write_text("[[jobs]\n")
    _restart(system)
    _is(system, "a", lambda job: job.kept)
    main.write_text(CALLER)
    (outcome,) = system.api.reload_host("team", force=False)
    assert (outcome.accepted, outcome.removed_job_ids, outcome.added_job_ids) == (True, ("a",), ())
    assert (system.jobs()["a"].removed, system.jobs()["a"].problems) == (True, ())


def test_a_module_that_no_longer_imports_holds_its_jobs(system: ProjectSystem) -> None:
    """Their fires are one MISSED row that counts, runs are refused with the cause; the mended module fires again."""
    before = {run.run_id for run in system.runs("a")}
    system.write(MAIN + CALLER, code=CODE + "def broken(:\n")
    _restart(system)
    job = _is(system, "a", lambda job: job.held)
    assert "invalid syntax" in job.held or "was never closed" in job.held

    def held_rows() -> list[Any]:
        return _held_rows(system, "a", before)

    row = eventually(lambda: row if held_rows() and (row := held_rows()[-1]).fold.count >= 3 else None)
    assert row.state == "MISSED"
    assert "cannot be imported" in row.reason.message
    assert len(held_rows()) == 1
    assert "cannot be imported" in system.cli("run", "a", code=2).err
    called = system.ask("run", "caller", "--wait", code=1)
    assert "cannot be imported" in called["error"]
    found = {finding["check"]: finding for finding in system.ask("doctor", code=None)["findings"]}
    assert found["runs.held"]["level"] == "problem"
    assert "✘ cannot run, see below" in " ".join(system.cli("jobs").out.split())
    system.write(MAIN + CALLER)
    system.cli("reload")
    _is(system, "a", lambda job: not job.held and not job.kept)
    system.until_fired("a")
    [row] = held_rows()
    ran = {run.trigger.at for run in system.runs("a") if run.state == "SUCCEEDED"}
    assert not [at for at in ran if row.fold.first <= at <= row.fold.last]


def test_plugins_behind_a_dangling_link_remove_nothing(system: ProjectSystem) -> None:
    """The jobs of a plugin without its folder stay on the schedule: MISSED, with the reason."""
    before = {run.run_id for name in ("a", "b") for run in system.runs(name)}
    (system.project / "plugins").rename(system.project / "moved")
    (system.project / "plugins").symlink_to("nowhere")
    _restart(system)
    job = _is(system, "b", lambda job: job.held)
    assert not job.removed
    assert any("there is no such folder" in problem.message for problem in job.problems)
    for name in ("a", "b"):
        eventually(lambda name=name: _held_rows(system, name, before))
    (system.project / "plugins").unlink()
    (system.project / "moved").rename(system.project / "plugins")
    system.cli("reload")
    _is(system, "b", lambda job: not job.held and not job.kept)
    system.until_fired("a", "b")


def test_only_a_legible_decision_takes_a_job_off_its_schedule(system: ProjectSystem) -> None:
    """A job that is absent from a readable file is removed, one with enabled = false is off, and both say so."""
    system.write(CALLER + MAIN.replace("overlap", "enabled = false\noverlap"))
    (system.project / "plugins" / "x" / "jobs.toml").write_text("jobs = []\n")
    _restart(system)
    off = _is(system, "a", lambda job: not job.enabled)
    assert (off.valid, off.kept, off.next_fires) == (True, False, ())
    assert "the host 'team' takes these jobs off their schedules: a" in system.log("kernel")
    told = [event.data for event in system.api.list_events(kinds=["host.manifest"]).events]
    assert any(data["stopped_schedules"] == ["a"] for data in told)
    assert system.jobs()["b"].removed
    system.write(CALLER)
    system.cli("reload")
    assert _is(system, "a", lambda job: job.removed).kept is False
    assert "removed from its host's files" in " ".join(system.cli("jobs", "--all").out.split())


def test_stricter_checks_of_a_new_version_stop_no_schedule(system: ProjectSystem) -> None:
    """A job that an older version accepted keeps firing, marked, although this version's checks refuse it."""
    system.stop("host")
    system.stop("kernel")
    with sqlite3.connect(system.project / ".nomaflow" / "kernel.db") as store:
        [[text]] = store.execute("SELECT manifest FROM host_manifests WHERE host = 'team'")
        manifest = json.loads(text)
        manifest["kept_load"]["checked_by"] = "an older version"
        manifest["job_files"][0]["tree"]["jobs"][0]["refused_today"] = 5
        store.execute("UPDATE host_manifests SET manifest = ? WHERE host = 'team'", [json.dumps(manifest)])
    store.close()
    system.start_kernel()
    job = system.jobs()["a"]
    assert (job.valid, job.kept) == (True, True)
    assert [problem.code for problem in job.problems] == ["unknown_key"]
    system.start_host()
    system.until_fired("a", "b")


def test_the_kernel_s_own_file_follows_the_same_rule(system: ProjectSystem) -> None:
    """Broken, emptied, missing or misspelt, its jobs fire on; ``reload`` names file and line, and fails but for --force.

    They also fire on where the kernel is started without the file.
    """
    own = system.project / "central" / "jobs.toml"
    own.parent.mkdir()
    text = JOB.format(id="central").replace("overlap", 'host = "team"\noverlap')
    own.write_text(text)
    system.stop("kernel")
    system.start_kernel("--jobs", str(own))
    system.until_fired("central")
    for broken, said in (
        (text.replace("overlap", "overlapp"), "'overlapp'"),
        ("", "the file is empty"),
        (None, "there is no such file"),
    ):
        own.unlink() if broken is None else own.write_text(broken)
        refused = system.cli("reload", code=1)
        assert said in refused.out
        assert "jobs.toml" in refused.out
        assert system.jobs()["central"].kept
        system.cli("reload", "--force")
    system.stop("kernel")
    system.start_kernel("--jobs", str(own))
    job = system.jobs()["central"]
    assert (job.kept, job.removed) == (True, False)
    system.until_fired("central")
    started = system.cli("run", "central")
    assert "correct the file, then `nomaflow reload`" in " ".join((started.out + started.err).split())
    own.write_text(text + text.replace("central", "second"))
    eventually(lambda: "second" in system.jobs(), seconds=PATIENCE)
    assert not system.jobs()["central"].kept
    system.stop("kernel")
    system.start_kernel()
    eventually(lambda: system.instance("team"))
    job = system.jobs()["central"]
    assert (job.kept, job.removed) == (True, False)
    assert "no jobs file is named any more" in job.problems[0].message
    system.until_fired("central")
    refused = system.cli("reload", code=1)
    assert "is no longer named; keeping the last good definitions of: central, second" in refused.out
    [found] = [each for each in system.ask("doctor", code=None)["findings"] if each["check"] == "runs.kept"]
    assert (found["level"], "name it again" in found["fix"]) == ("problem", True)
    system.stop("kernel")
    system.start_kernel("--jobs", str(own))
    assert not system.jobs()["central"].kept
    eventually(lambda: system.instance("team"))
    system.until_fired("central")  # the file is watched by now
    own.write_text("jobs = []\n")
    eventually(lambda: system.jobs()["central"].removed)
    assert "removed: central, second" in " ".join(system.cli("reload").out.split())
    system.stop("kernel")
    system.start_kernel()
    eventually(lambda: system.instance("team"))
