"""Removal of jobs: only a legible decision of the owner takes a job off the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nomaflow_project.jobs.load import load_manifest
from nomaflow_project.jobs.loaded import CatalogueLoad, LoadedJob
from nomaflow_project.reading.project_files import ProjectFiles

JOB = '[[jobs]]\nid = "{id}"\nschedule = "0 2 * * *"\nsteps = [{{ type = "python", callable = "app:work" }}]\n'
A, B, C = (JOB.format(id=name) for name in "abc")
WORKING: Mapping[str, Any] = {
    "callables": {"app:work": {"kind": "sync", "parameters": [], "accepts_any_keyword": True, "error": None}},
    "modules": {"app": {"error": None}},
}
BROKEN: Mapping[str, Any] = {
    "callables": {"app:work": {"kind": "sync", "parameters": [], "accepts_any_keyword": False, "error": "it fails"}},
    "modules": {"app": {"error": "SyntaxError: '(' was never closed"}},
}
RENAMED: Mapping[str, Any] = {
    "callables": {"app:work": {"kind": "sync", "parameters": [], "accepts_any_keyword": False, "error": "no 'work'"}},
    "modules": {"app": {"error": None}},
}


class Project:
    """A project's job files, loaded again and again as a host's manifest brings them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.main = root / "jobs.toml"
        self.other = root / "plugins" / "x" / "jobs.toml"
        self.other.parent.mkdir(parents=True)
        self.main.write_text(A + B)
        self.other.write_text(C)
        self.load: CatalogueLoad | None = None
        self.again()

    def again(self, offers: Mapping[str, Any] = WORKING) -> dict[str, LoadedJob]:
        """Read the files again and return the jobs by id."""
        files = ProjectFiles(self.root, {}).job_files
        manifest = {"host": "h", "job_files": [file.to_json() for file in files], **offers}
        self.load = load_manifest(manifest, before=self.load)
        return {job.job_id: job for job in self.load.jobs}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project with the jobs a and b in jobs.toml, and c in plugins/x/jobs.toml."""
    return Project(tmp_path)


def _goes_on(job: LoadedJob) -> bool:
    return job.valid and job.kept and not job.held and job.definition is not None and bool(job.problems)


@pytest.mark.parametrize(
    "text",
    [
        A + '[[jobs]]\nid = "b\n',
        "",
        "# to be written\n",
        A + B.replace("[[jobs]]", "[[jbos]]"),
        A + B.replace("id =", "idd ="),
        A + B.replace('"b"', '"a"'),
        A + B.replace('"b"', '"not an id"'),
        A + B.replace("schedule", "shedule"),
        A + B.replace("0 2 * * *", "0 25 * * *"),
        A + B.replace("0 2 * * *", "0 2 * * *\"\ntimezone = \"Europe/Pariss"),
        A + B.replace("[[jobs]]", '[[jobs]]\ntimout_seconds = 5'),
        A + B.replace("[[jobs]]", '[[jobs]]\ntimeout_seconds = "ten"'),
        A + B.replace("[[jobs]]", '[[jobs]]\noverlap = "alow"'),
        A + B.replace("[[jobs]]", '[[jobs]]\noverlap = "allow"\noverlap = "skip"'),
        A + B.replace("[[jobs]]", "<<<<<<< HEAD\n[[jobs]]"),
        A + B.replace("steps =", "stps ="),
        A + B.replace('"python"', '"pyhton"'),
        A + B[: len(B) // 2],
        A + "\0" + B,
        "[meta]\nversion = 1\n",
        A + B.replace('"app:work"', '"app.work"'),
        A + B.replace("app:work", "${UNSET_VARIABLE}:work"),
        "[jobs]\n" + "x = 1\n",
        "jobs = [1]\n",
        "a = " + "[" * 100_000,
    ],
)  # fmt: skip
def test_an_illegible_edit_leaves_the_job_on_its_schedule(project: Project, text: str) -> None:
    """The last good definition stays, with the problem, after a misspelt, half-written or emptied edit."""
    project.main.write_text(text)
    for _ in range(2):  # the second load finds only what the first has kept
        jobs = project.again()
        assert _goes_on(jobs["b"])
        assert jobs["c"].valid
        assert not jobs["c"].kept


def test_what_cannot_be_read_leaves_its_jobs_on_the_schedule(project: Project) -> None:
    """A missing main file, a dangling link, a folder in the file's place, and text that is not UTF-8 decide nothing."""
    project.main.unlink()
    assert _goes_on(project.again()["a"])
    project.main.symlink_to("nowhere.toml")
    assert _goes_on(project.again()["a"])
    project.main.unlink()
    project.main.mkdir()
    assert _goes_on(project.again()["a"])
    project.main.rmdir()
    project.main.write_bytes(b"\xff\xfe" + (A + B).encode())
    assert _goes_on(project.again()["b"])
    project.main.write_text(A + B)
    jobs = project.again()
    assert [jobs[name].kept for name in "abc"] == [False, False, False]


@pytest.mark.parametrize("text", [B.replace("[[jobs]]", "[[jobs]"), B.replace("[[jobs]]", "[[jbos]]"), "", None])
def test_a_job_that_moved_into_a_new_illegible_file_is_not_removed(project: Project, text: str | None) -> None:
    """A job stays while a new file cannot be read, since it may be in there; once it can be read, the job goes."""
    new = project.root / "plugins" / "y" / "jobs.toml"
    new.parent.mkdir()
    project.main.write_text(A)
    if text is None:
        new.mkdir()
    else:
        new.write_text(text)
    for _ in range(2):
        jobs = project.again()
        assert ("b" in jobs) is (text != "")
        assert text == "" or _goes_on(jobs["b"])
    project.main.write_text("jobs = []\n")  # as legible as before: the file that was wrong all the time hides nothing
    assert set(project.again()) - {"b"} == {"c"}
    if new.is_dir():
        new.rmdir()
    new.write_text("jobs = []\n")
    assert set(project.again()) == {"c"}


@pytest.mark.parametrize("text", ['[[jobs]]\nid = "d', ""])
def test_a_job_that_moved_into_a_file_with_a_disabled_job_is_not_removed(project: Project, text: str) -> None:
    """A job's own mistake hides no other job: that the file cannot be read, or was emptied, is new."""
    project.other.write_text(C + '[[jobs]]\nid = "d"\nschedule = "0 25 * * *"\n')
    assert not project.again()["d"].valid
    project.main.write_text(A)
    project.other.write_text(text)
    for _ in range(2):
        jobs = project.again()
        assert _goes_on(jobs["b"])
        assert _goes_on(jobs["c"])
    project.other.write_text(C)
    assert set(project.again()) == {"a", "c"}


@pytest.mark.parametrize("name", ["a", "x"])  # read before and after the file of the job
def test_a_second_table_with_the_id_of_a_job_never_takes_it_over(project: Project, name: str) -> None:
    """The table in the file that had the job stands, and says that there is another."""
    rival = project.root / "plugins" / name / "jobs.toml"
    rival.parent.mkdir(exist_ok=True)
    place, id = (project.other, "c") if name == "a" else (project.main, "a")
    table = JOB.format(id=id).replace("0 2 * * *", "0 9 * * *")
    rival.write_text(table if name == "a" else C + table)
    for _ in range(2):
        load_of = project.again()
        assert project.load is not None
        first, second = (job for job in project.load.jobs if job.job_id == id)
        assert (first.valid, first.kept, second.valid) == (True, False, False)
        assert first.definition is not None
        assert first.definition.schedule is not None
        assert first.file == str(place.relative_to(project.root))
        assert [problem.code for problem in first.problems] == ["id_given_twice"]
        assert [problem.code for problem in second.problems] == ["duplicate_job_id"]
        assert set(load_of) == {"a", "b", "c"}


def test_of_two_tables_in_the_file_of_a_job_the_unchanged_one_stands(project: Project) -> None:
    """A block that was copied above the job to begin another one does not become the job."""
    project.main.write_text(A.replace("0 2 * * *", "0 9 * * *") + A + B)
    project.again()
    assert project.load is not None
    first = next(job for job in project.load.jobs if job.job_id == "a")
    assert (first.path, first.valid) == ("jobs[1]", True)


def test_plugins_that_cannot_be_listed_decide_nothing(project: Project) -> None:
    """A plugin's file behind a missing folder or a dangling link has removed no job."""
    moved = project.root / "moved"
    (project.root / "plugins").rename(moved)
    assert _goes_on(project.again()["c"])
    (project.root / "plugins").symlink_to("nowhere")
    assert _goes_on(project.again()["c"])
    (project.root / "plugins").unlink()
    (project.root / "plugins").mkdir()
    (project.root / "plugins" / "x").symlink_to("nowhere")
    assert _goes_on(project.again()["c"])


def test_all_job_files_gone_at_once_decide_nothing(project: Project) -> None:
    """The loss of all job files counts as an accident of the disk, even if plugins/ can be listed."""
    project.main.unlink()
    project.other.unlink()
    jobs = project.again()
    assert all(_goes_on(jobs[name]) for name in "abc")


def test_a_legible_removal_removes(project: Project) -> None:
    """A job absent from a readable file is gone, and so are those of a plugin's file that is gone; a rename is both."""
    project.main.write_text(A)
    assert sorted(project.again()) == ["a", "c"]
    project.main.write_text(A.replace('"a"', '"d"'))
    assert sorted(project.again()) == ["c", "d"]
    project.other.unlink()
    assert sorted(project.again()) == ["d"]
    project.main.write_text("jobs = []\n")
    assert project.again() == {}


def test_a_job_that_moved_to_another_file_is_that_job(project: Project) -> None:
    """A move between files is no removal, also where the old file is empty now."""
    project.other.write_text(B + C)
    project.main.write_text(A)
    assert [job.kept for job in project.again().values()] == [False] * 3


def test_enabled_false_is_a_legible_decision(project: Project) -> None:
    """A job that is switched off stays off, whatever else is wrong with it."""
    project.main.write_text(A + B.replace("[[jobs]]", "[[jobs]]\nenabled = false\ntimout_seconds = 5"))
    job = project.again()["b"]
    assert not job.kept
    assert not job.valid


@pytest.mark.parametrize("value", ["false", '"false"', '"${UNSET_VARIABLE:-off}"'])
def test_a_preset_fires_on_where_its_job_is_switched_off(project: Project, value: str) -> None:
    """A preset goes on firing if its job is switched off, even with a misspelt key beside the switch."""
    preset = '[[jobs.presets]]\nname = "p"\nschedule = "0 3 * * *"\n'
    project.main.write_text(A + B + preset)
    project.again()
    off = B.replace("[[jobs]]", f"[[jobs]]\nenabled = {value}\ntimout_seconds = 5")
    project.main.write_text(A + off + preset)
    job = project.again()["b"]
    assert _goes_on(job)
    assert job.definition is not None
    assert [schedule.preset for schedule in job.definition.schedules()] == ["p"]


def test_a_value_that_cannot_be_kept_does_not_hide_that_the_job_is_off(project: Project) -> None:
    """A job with `inf` in it is read no further, and yet its `enabled = false` counts."""
    project.main.write_text(A + B.replace("[[jobs]]", "[[jobs]]\nenabled = false\ntimeout_seconds = inf"))
    assert not project.again()["b"].kept


@pytest.mark.parametrize("table", ["[jobs.params]", "[jobs.steps.op_kwargs]"])
def test_a_schedule_below_another_table_is_no_decision(project: Project, table: str) -> None:
    """A schedule that slipped below another table leaves the job scheduled; with `enabled = false` it is off."""
    steps = '[[jobs.steps]]\ncallable = "app:work"\n'
    moved = f'[[jobs]]\nid = "b"\n{steps}{table}\nschedule = "0 2 * * *"\n'
    project.main.write_text(A + moved)
    for _ in range(2):
        job = project.again()["b"]
        assert _goes_on(job)
        assert [(each.code, each.path.rpartition(".")[2]) for each in job.problems] == [("missing_key", "schedule")]
    for key in ("enabled = false", 'schedule = "0 3 * * *"', ""):
        project.main.write_text(A + moved.replace('"b"', f'"b"\n{key}'))
        assert "missing_key" not in [each.code for each in project.again()["b"].problems]


def test_a_second_table_of_an_id_is_no_job_that_goes_on(project: Project) -> None:
    """The first table of an id is the job; the later one is an error, and is not kept for it."""
    project.main.write_text(A + B.replace('"b"', '"a"'))
    project.again()
    assert project.load is not None
    assert [(job.job_id, job.kept) for job in project.load.jobs] == [
        ("a", False),
        ("c", False),
        ("a", False),
        ("b", True),
    ]


def test_retention_goes_on_with_a_file_that_cannot_be_read(project: Project) -> None:
    """A legible decision shortens the retention; a syntax error or a misspelt key does not."""
    said = "jobs = []\n[meta.retention]\ndays = 900\n"
    for broken in ("[meta.retention\n", said.replace("days", "dayz")):
        project.main.write_text(said)
        project.again()
        project.main.write_text(broken)
        project.again()
        assert project.load is not None
        assert project.load.retention is not None
        assert project.load.retention.days == 900
    project.main.write_text("jobs = []\n")
    project.again()
    assert project.load.retention is None


def test_a_callable_that_no_longer_imports_holds_its_job(project: Project) -> None:
    """The job stays on its schedule and says why it cannot run; once the module imports again it is as before."""
    job = project.again(BROKEN)["a"]
    assert job.valid
    assert job.kept
    assert "'(' was never closed" in job.held
    again = project.again()["a"]
    assert not again.kept
    assert not again.held


def test_a_callable_that_is_gone_from_its_module_fails_by_name(project: Project) -> None:
    """The last good definition fires: the attempt is what says that the function is gone."""
    assert _goes_on(project.again(RENAMED)["a"])


def test_what_was_never_valid_is_disabled(tmp_path: Path) -> None:
    """A malformed job without a last good definition is disabled, and the others continue."""
    project = Project(tmp_path)
    project.load = None
    project.main.write_text(A + B.replace("schedule", "shedule"))
    jobs = project.again()
    assert not jobs["b"].valid
    assert not jobs["b"].kept
    assert jobs["a"].valid


def test_the_legible_job_wins_beside_an_illegible_one(project: Project) -> None:
    """Definitions are merged per job: what can be read is taken, the rest stays as it was."""
    project.main.write_text(A.replace("0 2", "30 4") + B.replace("schedule", "shedule"))
    jobs = project.again()
    assert jobs["a"].definition is not None
    assert jobs["a"].definition.schedule == "30 4 * * *"
    assert _goes_on(jobs["b"])
