"""Variables that cannot be read, at a reload and a restart: no default takes a job off the schedule in their place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project_system import ProjectSystem, open_system

from real_system import PATIENCE, eventually

pytestmark = pytest.mark.e2e

JOB = """
[[jobs]]
id = "{id}"
enabled = "${{{variable}:-false}}"
schedule = "* * * * * *"
overlap = "allow"
steps = [{{ callable = "team.code:count" }}]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectSystem]:
    """A kernel and a host with two jobs that a variable switches on: one of vars.env, and one of a file of its own."""
    for opened in open_system(tmp_path_factory.mktemp("variables"), forks_templates=True):
        opened.write(JOB.format(id="steady", variable="SWITCH") + JOB.format(id="filed", variable="FILED"))
        (opened.project / "nomaflow.toml").write_text('[host]\nname = "team"\nenv_file = "vars.env"\n')
        opened.environ["FILED_FILE"] = str(opened.project / "filed")
        _restore(opened)
        opened.start_kernel()
        opened.start_host()
        yield opened


@pytest.fixture
def system(running: ProjectSystem) -> ProjectSystem:
    """Give each test the variables in order, and both jobs firing."""
    _restore(running)
    assert running.api.reload_host("team", force=False)[0].accepted
    running.until_fired("steady", "filed")
    return running


def _restore(system: ProjectSystem) -> None:
    (system.project / "vars.env").write_text("SWITCH=true\n")
    (system.project / "filed").write_text("true\n")


def _kept(system: ProjectSystem, job_id: str) -> Any:
    """Restart the host, and wait until it is marked that a job keeps its last good definition."""
    system.stop("host")
    system.start_host()
    return eventually(lambda: job if (job := system.jobs()[job_id]).kept else None)


def _findings(system: ProjectSystem) -> dict[str, Any]:
    """Return what ``doctor`` finds."""
    return {each["check"]: each for each in system.ask("doctor", code=None)["findings"]}


@pytest.mark.parametrize(
    "text",
    ['SWITCH="true\n', None, 'SWITCH=false\nSWITCH="true\n'],
    ids=["a quote is missing", "no file", "an older value before"],
)
def test_an_env_file_that_cannot_be_read_stops_no_schedule(system: ProjectSystem, text: str | None) -> None:
    """A reload is refused; over a restart the job that took a default keeps its last good definition, and says why."""
    file = system.project / "vars.env"
    file.unlink() if text is None else file.write_text(text)
    refused = system.cli("reload", code=1).out
    assert "refused the load" in refused
    assert "vars.env" in refused
    job = _kept(system, "steady")
    assert (job.valid, job.enabled, job.problems[0].path) == (True, True, "jobs[0].enabled")
    assert "'SWITCH' is not set, and 'vars.env', which may set it, cannot be read" in job.problems[0].message
    assert not system.jobs()["filed"].kept
    system.until_fired("steady")
    _restore(system)
    assert system.api.reload_host("team", force=False)[0].accepted
    eventually(lambda: not system.jobs()["steady"].kept)


def test_a_file_of_a_variable_that_cannot_be_read_stops_no_schedule(system: ProjectSystem) -> None:
    """The file that FILED_FILE names is gone: a reload is refused, and a restart keeps the last good definition."""
    Path(system.environ["FILED_FILE"]).unlink()
    assert "the file of FILED_FILE" in system.cli("reload", code=1).out
    job = _kept(system, "filed")
    assert (job.valid, job.enabled, job.problems[0].path) == (True, True, "jobs[1].enabled")
    assert "the file of FILED_FILE" in job.problems[0].message
    system.until_fired("filed")


def test_a_byte_order_mark_is_no_part_of_a_variable(system: ProjectSystem) -> None:
    """An editor of Windows may begin an env file with one."""
    (system.project / "vars.env").write_text("SWITCH=true\n", "utf-8-sig")
    assert system.api.reload_host("team", force=False)[0].accepted
    assert system.jobs()["steady"].enabled
    system.until_fired("steady")


def test_an_env_file_that_was_emptied_stops_no_schedule(system: ProjectSystem) -> None:
    """A reload is refused; over restarts of both sides the job keeps its last good definition, until the file is back.

    A comment is text: with it the default is a decision of the owner.
    """
    file = system.project / "vars.env"
    file.write_text("\n")
    refused = system.cli("reload", code=1).out
    assert "vars.env" in refused
    assert "the file is empty, and it had text" in refused
    for _ in range(2):
        system.stop("kernel")
        system.start_kernel()
        job = _kept(system, "steady")
        assert (job.valid, job.enabled) == (True, True)
        assert (job.problems[0].file, job.problems[0].message) == ("vars.env", "the file is empty, and it had text")
    system.until_fired("steady", "filed")
    found = _findings(system)
    assert "vars.env: the file is empty" in found["runs.kept"]["message"]
    file.write_text("# nothing is set here\n")
    system.cli("reload")
    off = eventually(lambda: job if not (job := system.jobs()["steady"]).kept else None)
    assert (off.valid, off.enabled, off.problems) == (True, False, ())


def test_a_default_for_want_of_a_variable_is_named(system: ProjectSystem) -> None:
    """Nobody knows what stood in an env file that is new to the kernel and empty: each command names the default."""
    (system.project / "other.env").touch()
    text = (system.project / "nomaflow.toml").read_text()
    (system.project / "nomaflow.toml").write_text(text.replace("vars.env", "other.env"))
    try:
        system.cli("reload")
        off = eventually(lambda: job if not (job := system.jobs()["steady"]).enabled else None)
        [told] = off.problems
        assert (told.severity, told.path) == ("warning", "jobs[0].enabled")
        assert (
            told.message == "the environment variable 'SWITCH' is not set, and 'other.env', which may set it, is empty"
        )
        for page in ("jobs", "job"):
            assert "'other.env', which may set it, is empty" in " ".join(
                system.cli(page, *(("steady",) if page == "job" else ())).out.split()
            )
        found = _findings(system)
        assert "'steady', jobs[0].enabled: the environment variable 'SWITCH'" in found["runs.defaults"]["message"]
    finally:
        (system.project / "nomaflow.toml").write_text(text)


@pytest.fixture
def named(tmp_path: Path) -> Iterator[ProjectSystem]:
    """A kernel and a host whose main job file, name and further settings are variables of vars.env."""
    for opened in open_system(tmp_path / "named", forks_templates=True):
        opened.write("jobs = []\n")
        plain = JOB.replace('enabled = "${{{variable}:-false}}"\n', "")
        (opened.project / "night.toml").write_text(plain.format(id="nightly"))
        (opened.project / "plugins" / "team" / "jobs.toml").write_text(plain.format(id="beside"))
        (opened.project / "nomaflow.toml").write_text(
            '[host]\nname = "${TEAM:-nobody}"\nenv_file = "vars.env"\nmax_async = "${MOST:-3}"\n'
            '[jobs]\nconfig_path = "${JOBS:-jobs.toml}"\n[app]\nregion = "${REGION:-none}"\n'
        )
        opened.environ["TEAM"] = "team"
        (opened.project / "vars.env").write_text("JOBS=night.toml\nREGION=eu\nMOST=4\n")
        opened.start_kernel()
        opened.start_host()
        yield opened


def test_a_default_names_no_other_job_file(named: ProjectSystem) -> None:
    """With vars.env unreadable, the default of JOBS is another readable file: the jobs of the right one stay and fire.

    The defaults of MOST and REGION count: they decide no schedule, and the host serves.
    """
    named.until_fired("nightly", "beside")
    assert [each["job_id"] for each in named.ask("check", "--no-import")["jobs"]] == ["nightly", "beside"]
    (named.project / "vars.env").write_text('JOBS="night.toml\nREGION=eu\n')
    assert "vars.env" in named.cli("reload", code=1).out
    job = _kept(named, "nightly")
    assert (job.valid, job.removed) == (True, False)
    assert (job.problems[0].file, job.problems[0].path) == ("nomaflow.toml", "jobs.config_path")
    assert "'JOBS' is not set, and 'vars.env', which may set it, cannot be read" in job.problems[0].message
    assert not named.jobs()["beside"].kept
    named.until_fired("nightly", "beside")
    (named.project / "vars.env").write_text("")
    assert _kept(named, "nightly").valid
    eventually(lambda: named.jobs()["nightly"].problems[0].file == "vars.env")
    named.until_fired("nightly", "beside")
    (named.project / "vars.env").write_text("JOBS=night.toml\n")
    named.cli("reload")
    eventually(lambda: not named.jobs()["nightly"].kept)


def test_a_default_names_no_other_host(named: ProjectSystem) -> None:
    """With vars.env unreadable, the default of TEAM would make the host another one, without the jobs of its own."""
    (named.project / "vars.env").unlink()
    del named.environ["TEAM"]
    named.stop("host")
    host = named.launch_host("host", named.project)
    assert host.process.wait(PATIENCE) == 78
    said = " ".join(host.log.split())
    assert (
        "host.name: the environment variable 'TEAM' is not set, and 'vars.env', which may set it, cannot be read"
        in said
    )
    named.parts.pop("host")
    # The kernel may know the host that was stopped for as long as its lease lasts.
    eventually(lambda: not any(host["instances"] for host in named.hosts()))
    absent = _findings(named)["hosts.absent"]
    assert absent["level"] == "problem"
    assert "host 'team' is not attached" in absent["message"]
    assert [host["name"] for host in named.hosts()] == ["team"]
