"""Reading a project: what stops a host, what becomes a problem, what is resolved."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from machine_parts import need
from nomaflow_host.__main__ import _logging_settings
from nomaflow_host.app import HostOptions, ProjectReader
from nomaflow_host.process.errors import ProjectError
from nomaflow_host.project.project import Project, make_state_dir
from nomaflow_project.reading.problems import Problem
from nomaflow_project.reading.toml_file import read_toml

JOBS = """
[[jobs]]
id = "nightly"
description = "for ${TEAM}"
schedule = "${WHEN:-0 2 * * *}"
params = { since = 2026-01-31, keep = "${KEEP}" }

[[jobs.steps]]
type = "python"
callable = "myapp.cleanup:purge"
op_kwargs = { apps_id = 10, url = "${URL}" }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "My Team"
    (root / "plugins" / "myapp").mkdir(parents=True)
    (root / "jobs.toml").write_text(JOBS)
    return root


def open_project(root: Path, name: str | None = None, **environ: str) -> Project:
    return Project.open(root, name=name, environ=environ)


def test_a_project_without_settings_uses_the_defaults(project: Path) -> None:
    """nomaflow.toml is optional; the host is named after the folder, its state is for the owner only, once it has some:
    who only looks at a project writes nothing."""
    opened = open_project(project, TEAM="ops")
    assert opened.host == "my-team"
    assert opened.state_dir == project / ".nomaflow" / "host-my-team"
    assert not (project / ".nomaflow").exists()
    make_state_dir(opened.state_dir, given=False)
    assert opened.state_dir.stat().st_mode & 0o777 == 0o700
    assert opened.settings.max_async == 200
    assert opened.spec.settings["jobs"] == {"config_path": str(project / "jobs.toml")}
    assert opened.spec.sys_path == (str(project / "plugins"),)
    assert not opened.spec.problems


AS_NOBODY = """
import os, sys
from pathlib import Path
from nomaflow_host.app import HostOptions, ProjectReader
from nomaflow_host.process.errors import ProjectError
from nomaflow_host.project.run_as import check_niceness
project = ProjectReader(options=HostOptions(project=Path(sys.argv[1])), environ={}).current
check_niceness(project, None)
print(os.nice(0))
os.setresuid(65534, 65534, 65534)
try:
    check_niceness(project, None)
except ProjectError as error:
    print(error)
"""


def test_a_niceness_that_workers_may_not_have_is_refused_at_the_start(project: Path) -> None:
    """Otherwise each worker would end as it starts. Root may have any, and keeps its own."""
    need(root=True)
    (project / "jobs.toml").unlink()
    (project / "nomaflow.toml").write_text("[host]\nnice = -5\n")
    said = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(project)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said == [
        str(os.nice(0)),
        f"{project}/nomaflow.toml: host.nice: this process may not have a negative niceness",
        "  fix: remove nice, or give the service CAP_SYS_NICE",
    ]


def test_a_new_name_in_the_file_waits_for_the_next_start(project: Path) -> None:
    """A host that is loaded again under a new name still names what the jobs of its own name call."""
    (project / "nomaflow.toml").write_text('[host]\nname = "old"\n')
    steps = '[[jobs.steps]]\ntype = "python"\ncallable = "shutil:disk_usage"\n'
    (project / "jobs.toml").write_text(f'[[jobs]]\nid = "nightly"\nhost = "old"\n{steps}')
    reader = ProjectReader(options=HostOptions(project=project), environ={})
    (project / "nomaflow.toml").write_text('[host]\nname = "new"\n')
    spec = reader().spec
    assert (spec.host, spec.named_callables) == ("old", ("shutil:disk_usage",))
    assert [each["code"] for each in spec.problems] == ["restart_needed"]


def test_references_are_resolved_except_below_params_and_op_kwargs(project: Path) -> None:
    """References in params and op_kwargs are resolved at each attempt, since secrets must not reach the kernel."""
    job = open_project(project, TEAM="ops").spec.job_files[0]["tree"]["jobs"][0]
    assert job["description"] == "for ops"
    assert job["schedule"] == "0 2 * * *"
    assert job["params"] == {"since": {"$date": "2026-01-31"}, "keep": "${KEEP}"}
    assert job["steps"][0]["op_kwargs"] == {"apps_id": 10, "url": "${URL}"}


def test_a_variable_that_is_not_set_is_a_problem_of_its_place(project: Path) -> None:
    """The problem names file, path, job and variable; the text stays unchanged."""
    opened = open_project(project)
    (problem,) = opened.spec.problems
    assert problem["file"] == "jobs.toml"
    assert problem["path"] == "jobs[0].description"
    assert problem["job_id"] == "nightly"
    assert "'TEAM'" in problem["message"]
    assert opened.spec.job_files[0]["tree"]["jobs"][0]["description"] == "for ${TEAM}"


def test_every_callable_that_a_job_names_is_listed(project: Path) -> None:
    """Callables in the plugins' own job files are listed as well; those of jobs that another host runs are not."""
    other = project / "plugins" / "reports"
    other.mkdir()
    steps = '[[jobs.steps]]\ntype="python"\ncallable="reports.m:run"\n'
    away = steps.replace("reports.m", "theirs")
    mine = f'[[jobs]]\nid="b"\nhost="my-team"\n{steps}'
    (other / "jobs.toml").write_text(f'{mine}[[jobs]]\nid="c"\nhost="gpu"\n{away}')
    opened = open_project(project, TEAM="ops")
    assert opened.spec.named_callables == ("myapp.cleanup:purge", "reports.m:run")
    assert [each["path"] for each in opened.spec.job_files] == ["jobs.toml", "plugins/reports/jobs.toml"]


def test_a_malformed_job_file_does_not_stop_the_host(project: Path) -> None:
    """A malformed job file is a manifest entry with line and column; the other files are read."""
    other = project / "plugins" / "reports"
    other.mkdir()
    (other / "jobs.toml").write_text('[[jobs]]\nid = "b"\n')
    (project / "jobs.toml").write_text('[[jobs]]\nid = "a"\nschedule = oops\n')
    bad, good = open_project(project).spec.job_files
    assert bad["tree"] is None
    assert bad["error"]["line"] == 3
    assert bad["error"]["code"] == "bad_toml"
    assert good["tree"]["jobs"][0]["id"] == "b"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"x = 1" + b"0" * 5000, "digits"),
        (b"x = nan", "nan"),
        (b"x = " + b"[" * 200 + b"]" * 200, "nested"),
        (b"#" * (1 << 21), "larger than"),
    ],
)
def test_hostile_job_files_are_entries_too(project: Path, body: bytes, message: str) -> None:
    """The host starts with job files of any bytes and reports the problem."""
    (project / "jobs.toml").write_bytes(body)
    (entry,) = open_project(project).spec.job_files
    assert message in entry["error"]["message"]
    assert entry["error"]["fix"]


def test_a_missing_job_file_is_said(project: Path) -> None:
    """A missing job file is reported if the project has none at all, or a setting names it."""
    (project / "jobs.toml").unlink()
    assert open_project(project).spec.job_files[0]["error"]["code"] == "missing_file"
    (project / "plugins" / "myapp" / "jobs.toml").write_text("")
    main, other = open_project(project).spec.job_files
    assert main["absent"]
    assert main["error"] is None
    assert other["path"] == "plugins/myapp/jobs.toml"
    (project / "nomaflow.toml").write_text('[jobs]\nconfig_path = "other.toml"\n')
    assert open_project(project).spec.job_files[0]["path"] == "other.toml"
    (project / "nomaflow.toml").write_text('[jobs]\nconfig_path = ""\n[connectors]\nconfig_path = "${NOPE:-}"\n')
    opened = open_project(project)
    assert opened.spec.job_files[0]["path"] == "jobs.toml"  # empty: the file of the usual name
    assert opened.spec.settings["connectors"] == {"config_path": str(project / "connectors.toml")}
    assert opened.spec.job_files[0]["absent"]  # nothing names it
    assert not opened.spec.problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[host]\nname = 'x'\nmax_sinc = 3\n", ["nomaflow.toml:3", "max_sinc", "max_sync"]),
        ("[host]\nmax_sync = 'three'\n", ["host.max_sync", "whole number", "'three'"]),
        ("[host]\nname = '${MISSING}'\n", ["host.name", "'MISSING'", ":-default"]),
        ("[host]\nenv_file = 3\n", ["host.env_file: expected a text"]),
        ("[host]\nmax_sync = true\n", ["host.max_sync", "a number", "true"]),
        ("[host]\nmax_sync = 0\n", ["host.max_sync", "0 is too small", "at least 1"]),
        ("[host]\nname = 'No Way'\n", ["host.name", "'No Way'"]),
        ("[host]\npass_env = 'A'\n", ["host.pass_env", "array"]),
        ("host = 3\n", ["expected a table"]),
        ("[host]\nlog_format = 'xml'\n", ["text, json"]),
        ("a = \n", ["nomaflow.toml:1", "invalid value"]),
        ("[app]\nkey = '${MISSING}'\n", ["app.key", "'MISSING'", ":-default"]),
        ("[jobs]\nconfig_path = 3\n", ["jobs.config_path"]),
        ('[jobs]\nconfig_path = "etl\\u0000.toml"\n', ["jobs.config_path", "'etl\\x00.toml' has a NUL byte"]),
    ],
)
def test_unusable_settings_stop_the_host(project: Path, text: str, expected: list[str]) -> None:
    """The message names file, key, what is wrong and the way out, and the exit code is that of a bad configuration."""
    (project / "nomaflow.toml").write_text(text)
    with pytest.raises(ProjectError) as raised:
        open_project(project)
    assert raised.value.exit_code == 78
    for part in [*expected, "fix:"]:
        assert part in str(raised.value)


def test_a_folder_that_is_none_stops_the_host(tmp_path: Path) -> None:
    """A missing folder and a file are both named."""
    with pytest.raises(ProjectError, match="no such folder"):
        open_project(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(ProjectError, match="not a folder"):
        open_project(tmp_path / "file")


def test_names_come_from_the_command_line_first(project: Path) -> None:
    """The command line's name wins over that of [host], and that over the folder's."""
    (project / "nomaflow.toml").write_text('[host]\nname = "billing"\n')
    assert open_project(project, "other").host == "other"
    assert open_project(project).host == "billing"
    with pytest.raises(ProjectError, match="not a valid host name"):
        open_project(project, "../evil")


def test_an_unusable_connectors_file_is_a_problem_without_its_values(project: Path) -> None:
    """The host runs without that pool, so that other jobs work, and no secret is in the message."""
    file = project / "connectors.toml"
    file.write_text('[pools.default]\nurl = "postgresql://u:hunter2@h/d"\n')
    file.chmod(0o644)
    opened = open_project(project, TEAM="ops")
    (problem,) = opened.spec.problems
    assert (problem["code"], problem["path"]) == ("open_credential", "pools.default.url")
    assert "hunter2" not in str(problem)
    assert not opened.connectors.pools


def test_connectors_are_resolved_and_their_variables_kept_from_workers(project: Path) -> None:
    """The credentials are not shown by repr."""
    (project / "connectors.toml").write_text('[pools.default]\nurl = "postgresql://u:${DB_PASSWORD}@h/d"\n')
    opened = open_project(project, TEAM="ops", DB_PASSWORD="hunter2")
    assert "hunter2" in opened.connectors.pools["default"]["url"]
    assert opened.connectors.variables == {"DB_PASSWORD", "DB_PASSWORD_FILE"}
    assert "hunter2" not in repr(opened)
    assert "hunter2" not in str(opened.spec.to_json())


@pytest.mark.parametrize(
    ("table", "fix"), [("hosts", "did you mean 'host'?"), ("newer", "your own settings go below [app]")]
)
def test_an_unknown_table_is_refused(project: Path, table: str, fix: str) -> None:
    """One that is misspelt would count for nothing, as an unknown key would."""
    (project / "nomaflow.toml").write_text(f"[app]\nlimit = 3\n[{table}]\nname = 'x'\n")
    with pytest.raises(ProjectError) as raised:
        open_project(project, TEAM="ops")
    told = raised.value.problem
    assert (told.code, told.place, told.message) == ("unknown_key", "nomaflow.toml:3", f"unknown table {table!r}")
    assert fix in told.fix


def test_settings_hold_every_limit(project: Path) -> None:
    """Every value in [host] arrives."""
    (project / "nomaflow.toml").write_text(
        "[host]\nmax_async = '${SOME:-5}'\nmax_sync = 2\ncancel_grace_seconds = 0.5\nnice = 3\n"
        'pass_env = ["A"]\ndrain_seconds = 2\n'
    )
    settings: Any = open_project(project).settings
    assert (settings.max_async, settings.max_sync, settings.cancel_grace_seconds) == (5, 2, 0.5)
    assert (settings.nice, settings.pass_env, settings.drain_seconds) == (3, ("A",), 2)


def test_the_log_is_as_the_files_say(project: Path) -> None:
    """Level and form may come from an env file, like each value of [host]."""
    (project / "nomaflow.toml").write_text('[host]\nenv_file = "v.env"\nlog_level = "${LEVEL}"\nlog_format = "json"\n')
    (project / "v.env").write_text("LEVEL=DEBUG\n")
    assert _logging_settings(Namespace(project=project, log_level="", log_format="")) == ("DEBUG", "json")


def test_a_state_directory_that_cannot_be_made_stops_the_host(project: Path) -> None:
    """A file in its place is named."""
    (project / ".nomaflow").write_text("")
    with pytest.raises(ProjectError, match=r"\.nomaflow"):
        make_state_dir(open_project(project).state_dir, given=False)


def test_the_state_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Its owner could open it later, and lead the host to a kernel of theirs. Names such as Slurm's can be guessed."""
    need(root=True)
    state = tmp_path / "nomaflow-4711"
    state.mkdir(mode=0o700)
    os.chown(state, 65534, 65534)
    with pytest.raises(ProjectError, match="belongs to another user, uid 65534"):
        make_state_dir(state, given=True)


def test_a_pipe_in_the_place_of_a_file_is_no_file(tmp_path: Path) -> None:
    """A read of the pipe ends at once and names the pipe."""
    os.mkfifo(tmp_path / "jobs.toml")
    found = read_toml(tmp_path / "jobs.toml")
    assert isinstance(found, Problem)
    assert found.message == "it cannot be read: not a regular file"


def test_a_path_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    """A read of a path with a NUL byte is like that of any file that cannot be read."""
    found = read_toml(tmp_path / "jobs\0.toml")
    assert isinstance(found, Problem)
    assert found.message == "it cannot be read: its path has a NUL byte"
