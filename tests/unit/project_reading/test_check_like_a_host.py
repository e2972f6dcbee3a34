"""A check tells what a host does with the same files, before a host has read them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from nomaflow_project.check.project import check_project
from nomaflow_project.jobs.load import load_manifest
from nomaflow_project.reading.project_files import ProjectFiles

JOB = '[[jobs]]\nid = "main"\n[[jobs.steps]]\ncallable = "m:f"\n'


def test_app_is_checked_as_a_host_reads_it(tmp_path: Path) -> None:
    """A host refuses a variable without a value wherever it stands below [app]; any number of TOML is a value."""
    (tmp_path / "jobs.toml").write_text(JOB)
    (tmp_path / "nomaflow.toml").write_text('[app]\nlimit = inf\n[app.params]\nurl = "${NOPE}"\n')
    report = check_project(tmp_path, environ={})
    assert [(each.code, each.path) for each in report.problems] == [("unset_variable", "app.params.url")]


def test_no_default_counts_while_an_env_file_cannot_be_read(tmp_path: Path) -> None:
    """A host leaves the job alone, and the check says so before it gets there."""
    (tmp_path / "nomaflow.toml").write_text('[host]\nenv_file = "v.env"\n')
    job = JOB.replace("[[jobs.steps]]", 'schedule = "${WHEN:-@daily}"\n[[jobs.steps]]')
    (tmp_path / "jobs.toml").write_text(job)
    report = check_project(tmp_path, environ={})
    assert [(each.code, each.path) for each in report.all_problems()] == [
        ("missing_file", "host.env_file"),
        ("unset_variable", "jobs[0].schedule"),
    ]


def test_a_path_without_a_value_names_no_file(tmp_path: Path) -> None:
    """Only the variable is missing; that a file of the reference's text is missing, too, is no news."""
    (tmp_path / "nomaflow.toml").write_text('[jobs]\nconfig_path = "${NOPE}"\n[connectors]\nconfig_path = "${NOPE}"\n')
    (tmp_path / "jobs.toml").write_text(JOB)
    report = check_project(tmp_path, environ={})
    assert sorted((each.code, each.path) for each in report.all_problems()) == [
        ("unset_variable", "connectors.config_path"),
        ("unset_variable", "jobs.config_path"),
    ]


def test_a_named_file_that_is_missing_is_told_with_a_way_out(tmp_path: Path) -> None:
    """The way out is another one than for a project without jobs: only that file would do."""
    (tmp_path / "nomaflow.toml").write_text('[jobs]\nconfig_path = "a.toml"\n[connectors]\nconfig_path = "b.toml"\n')
    report = check_project(tmp_path, environ={})
    assert [(each.file, each.fix) for each in report.problems] == [
        (name, "create it, or correct the path") for name in ("b.toml", "a.toml")
    ]


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    """Such a connectors.toml is there, though it has no content."""
    (tmp_path / "jobs.toml").write_text(JOB)
    (tmp_path / "connectors.toml").symlink_to("nowhere")
    (problem,) = check_project(tmp_path, environ={}).problems
    assert (problem.code, problem.file) == ("unreadable_file", "connectors.toml")


def test_what_the_host_says_too_is_told_once(tmp_path: Path) -> None:
    """A manifest has the problems of the same files, without the places that the check knows."""
    (tmp_path / "jobs.toml").write_text(JOB.replace("[[jobs.steps]]", 'description = "${NOPE}"\n[[jobs.steps]]'))
    (tmp_path / "nomaflow.toml").write_text('[host]\nenv_file = "v.env"\n')
    (tmp_path / "v.env").write_text("not a line\nnor this\n")
    said = [{**each.to_json(), "line": 0} for each in ProjectFiles(tmp_path, {}).problems]
    report = check_project(tmp_path, manifest={"host": "team", "problems": said}, environ={})
    assert [(each.code, each.place) for each in report.all_problems()] == [
        ("bad_variable", "v.env"),
        ("bad_variable", "v.env"),
        ("unset_variable", "jobs.toml:3"),
    ]


def test_the_jobs_of_a_check_are_those_of_a_kernel(tmp_path: Path) -> None:
    """A kernel gets texts without a value as they are written, and so does a check."""
    twice = '[[jobs]]\nid = "main"\ntimezone = "${NOPE}"\nretry = "${file:a}"\n[[jobs.steps]]\ntype = "${NOPE}"\n'
    (tmp_path / "jobs.toml").write_text(JOB + twice)
    report = check_project(tmp_path, environ={})
    files = ProjectFiles(tmp_path, {})
    manifest = {
        "host": report.jobs[0].host,
        "job_files": [each.to_json() for each in files.job_files],
        "problems": [each.to_json() for each in files.problems],
    }
    load = load_manifest(json.loads(json.dumps(manifest)))
    assert [replace(each, problems=()) for each in report.jobs] == [replace(each, problems=()) for each in load.jobs]
    assert [(each.code, each.path) for each in load.all_problems()] == [
        ("id_given_twice", "jobs[0].id"),
        ("duplicate_job_id", "jobs[1].id"),
        ("unset_variable", "jobs[1].timezone"),
        ("unreadable_secret", "jobs[1].retry"),
        ("unset_variable", "jobs[1].steps[0].type"),
    ]
    assert [[replace(each, line=0) for each in job.problems] for job in report.jobs] == [
        list(job.problems) for job in load.jobs
    ]


def test_a_variable_that_a_step_will_miss_is_a_warning(tmp_path: Path) -> None:
    """It may be set where the host runs; a default, a literal and a plugin's reference miss nothing."""
    (tmp_path / "jobs.toml").write_text(
        JOB.replace("[[jobs.steps]]", 'description = "costs $${PRICE}"\nparams = { a = "${NOPE}" }\n[[jobs.steps]]')
        + 'op_kwargs = { b = "x-${ALSO}", c = "${FINE:-1}", d = "$${LITERAL}", e = "${vault:a#b}", f = "${SET}" }\n'
    )
    problems = check_project(tmp_path, environ={"SET": "1"}).all_problems()
    assert [(each.code, each.path, each.is_error) for each in problems] == [
        ("unset_variable", "jobs[0].params.a", False),
        ("unset_variable", "jobs[0].steps[0].op_kwargs.b", False),
    ]
    assert problems[0].message.startswith("on this machine, ")
