"""A walk of many edits through one running project: in no case does a job stop firing without a visible reason."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from project_system import ProjectSystem, open_system

from real_system import eventually

pytestmark = pytest.mark.e2e

MAIN = """
[[jobs]]
id = "tick"
schedule = "* * * * * *"
overlap = "allow"
steps = [{ type = "python", name = "work", callable = "team.code:work", op_kwargs = { rows = 2 } }]

[[jobs]]
id = "steady"
schedule = "* * * * * *"
overlap = "allow"
steps = [{ callable = "team.code:work" }]
"""
EXTRA = MAIN[: MAIN.index("[[jobs]]", 5)].replace('"tick"', '"extra"')
CONNECTORS = '[connectors.web]\ntype = "api"\nbase_url = "http://127.0.0.1"\n'
CODE = "async def work(*, rows: int = 1):\n    return rows\n"

Edit = Callable[[Path], object]


def _swap(old: str, new: str, *, file: str = "jobs.toml") -> Edit:
    def edit(project: Path) -> None:
        path = project / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return edit


def _text(text: str | bytes, *, file: str = "jobs.toml") -> Edit:
    body = text.encode() if isinstance(text, str) else text
    return lambda project: (project / file).write_bytes(body)


def _linked(file: str, target: str) -> Edit:
    def edit(project: Path) -> None:
        path = project / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to(target)

    return edit


def _gone(*files: str) -> Edit:
    def edit(project: Path) -> None:
        for file in files:
            path = project / file
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return edit


def _added(plugin: str, text: str) -> Edit:
    def edit(project: Path) -> None:
        folder = project / "plugins" / plugin
        folder.mkdir()
        (folder / "jobs.toml").write_text(text)

    return edit


CODE_FILE = "plugins/team/code.py"
EXTRA_FILE = "plugins/extra/jobs.toml"
ILLEGIBLE: dict[str, Edit] = {
    "a bracket is missing": _swap("[[jobs]]", "[[jobs]"),
    "an empty file": _text(""),
    "a misspelt key": _swap('overlap = "allow"', 'ovrlap = "allow"'),
    "a wrong schedule": _swap("* * * * * *", "* 25 * * *"),
    "the id of another job": _swap('"tick"', '"steady"'),
    "a schedule below a table of values": _swap(
        'schedule = "* * * * * *"\noverlap = "allow"\n', 'params.schedule = "* * * * * *"\n'),
    "an unset variable": _swap('overlap = "allow"', 'overlap = "allow"\ndescription = "${NOBODY_SETS_THIS}"'),
    "a function that is not there": _swap("team.code:work", "team.code:wrok"),
    "a key the function does not take": _swap("rows = 2", "rowz = 2"),
    "a value of another type": _swap("rows = 2", 'rows = "two"'),
    "no job file at all": _gone("jobs.toml", EXTRA_FILE),
    "a link to nowhere": _linked("jobs.toml", "nowhere"),
    "plugins behind a link to nowhere": _linked("plugins", "nowhere"),
    "a job moved into a file that cannot be read": lambda project: (
        _text(MAIN[MAIN.index("[[jobs]]", 5) :])(project), _added("new", "[[jobs]\n" + EXTRA)(project)),
    "an id of the main file in an earlier plugin": lambda project: _added("a", EXTRA)(project),
    "a block copied above its job": _text(MAIN[: MAIN.index("[[jobs]]", 5)].replace("rows = 2", "rows = 3") + MAIN),
    "emptied settings": _text("", file="nomaflow.toml"),
    "settings with a misspelt table": _text('[hots]\nname = "team"\n', file="nomaflow.toml"),
    "settings with a misspelt path": _text(
        '[host]\nname = "team"\n[jobs]\nconfig_pth = "x.toml"\n', file="nomaflow.toml"),
    "settings with a syntax error": _text("[host\n", file="nomaflow.toml"),
    "connectors with a syntax error": _text("[connectors.web\n", file="connectors.toml"),
    "connectors with a misspelt table": _swap("[connectors", "[conectors", file="connectors.toml"),
    "emptied connectors": _text("", file="connectors.toml"),
    "a Python syntax error": _text("async def work(:\n", file=CODE_FILE),
    "a function renamed": _swap("def work", "def works", file=CODE_FILE),
    "a module that raises": _swap("async def", "raise RuntimeError('boo')\nasync def", file=CODE_FILE),
    "a module that exits": _swap("async def", "import os; os._exit(3)\nasync def", file=CODE_FILE),
}  # fmt: skip
"""No decision of anybody, one of each sort: each is refused, and all jobs go on. `test_last_good.py` has more of each."""

LEGIBLE: dict[str, tuple[Edit, set[str]]] = {
    "a job is taken out": (_text(MAIN[MAIN.index("[[jobs]]", 5) :]), {"tick"}),
    "a job is renamed": (_swap('"tick"', '"tack"'), {"tick"}),
    "a job is switched off": (_swap('id = "tick"', 'id = "tick"\nenabled = false'), {"tick"}),
    "no jobs, and it says so": (_text("jobs = []\n"), {"tick", "steady"}),
    "a plugin's file is gone": (_gone(EXTRA_FILE), {"extra"}),
    "another schedule": (_swap("* * * * * *", "* * * * * */2"), set()),
    "jobs moved to another file": (lambda project: (_text(EXTRA, file="jobs.toml")(project),
                                                    _text(MAIN, file=EXTRA_FILE)(project)), set()),
}  # fmt: skip
"""Decisions of the owner: each is taken, and exactly these jobs stop."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectSystem]:
    """A kernel and a host of a project with three jobs that fire every second."""
    for made in open_system(tmp_path_factory.mktemp("walk") / "team", forks_templates=True):
        _restore(made.project)
        made.start_kernel()
        made.start_host()
        yield made


@pytest.fixture(autouse=True)
def whole_project(system: ProjectSystem) -> None:
    """Begin each test with a project in order, of which every job fires."""
    _restore(system.project)
    assert system.api.reload_host("team", force=False)[0].accepted
    _all_fire(system)


def _restore(project: Path) -> None:
    """Put the files of the project back as they were."""
    for path in (project / "jobs.toml", project / "plugins"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink() or path.exists():
            path.unlink()
    for folder in ("team", "extra"):
        (project / "plugins" / folder).mkdir(parents=True)
    (project / "plugins" / "team" / "__init__.py").touch()
    (project / CODE_FILE).write_text(CODE)
    (project / "jobs.toml").write_text(MAIN)
    (project / EXTRA_FILE).write_text(EXTRA)
    (project / "nomaflow.toml").write_text('[host]\nname = "team"\n')
    (project / "connectors.toml").write_text(CONNECTORS)


def _fired_since(system: ProjectSystem, at: datetime) -> set[str]:
    """Return the jobs of which a fire later than *at* has a run that went on."""
    runs = [run for run in system.api.list_runs(since=at) if run.trigger.at and run.trigger.at > at]
    return {run.job_id for run in runs if run.state not in ("MISSED", "SKIPPED")}


def _all_fire(system: ProjectSystem, jobs: frozenset[str] = frozenset({"tick", "steady", "extra"})) -> None:
    at = datetime.now(UTC)
    eventually(lambda: jobs <= _fired_since(system, at))


def test_no_edit_stops_a_job_without_a_reason(system: ProjectSystem) -> None:
    """Each illegible edit is refused with its reason, and meanwhile no job has a pause between two fires."""
    began = datetime.now(UTC)
    for name, edit in ILLEGIBLE.items():
        _restore(system.project)
        edit(system.project)
        (outcome,) = system.api.reload_host("team", force=False)
        assert not outcome.accepted, name
        assert outcome.message or outcome.problems, name
    _all_fire(system)
    ended = datetime.now(UTC)
    runs = [run for run in system.api.list_runs(since=began) if run.trigger.at]
    for job in ("tick", "steady", "extra"):
        fires = sorted(run.trigger.at for run in runs if run.job_id == job and run.state not in ("MISSED", "SKIPPED"))
        pauses = [later - earlier for earlier, later in itertools.pairwise([began, *fires, ended])]
        assert max(pauses) < timedelta(seconds=10), (job, max(pauses))


def test_a_misspelt_host_disables_its_job_until_it_is_mended(system: ProjectSystem) -> None:
    """The host of a misspelt name has accepted nothing: the answer and the job say so, and it fires on later."""
    (system.project / "jobs.toml").write_text(MAIN.replace('id = "tick"', 'id = "tick"\nhost = "wlak"'))
    (outcome,) = system.api.reload_host("team", force=False)
    (problem,) = outcome.problems
    assert (outcome.accepted, problem.code) == (True, "job_disabled")
    assert problem.message == "job 'tick' is disabled: no host 'wlak' accepts jobs of host 'team'"
    job = eventually(lambda: found if not (found := system.jobs()["tick"]).valid else None)
    assert job.problems[0].message == "no host 'wlak' accepts jobs of host 'team'"
    eventually(lambda: not list(system.api.list_runs(job_id="tick", states=["QUEUED"])))  # of a fire before
    (system.project / "jobs.toml").write_text(MAIN)
    assert system.api.reload_host("team", force=False)[0].complete
    _all_fire(system)


@pytest.mark.parametrize("name", LEGIBLE)
def test_a_decision_stops_exactly_what_it_says(system: ProjectSystem, name: str) -> None:
    """A legible edit takes effect at once: the jobs that it removes stop firing, and all others continue."""
    edit, stopped = LEGIBLE[name]
    edit(system.project)
    (outcome,) = system.api.reload_host("team", force=False)
    assert outcome.accepted, outcome
    since, others = datetime.now(UTC), {"tick", "steady", "extra"} - stopped
    for _ in range(3):  # so that a fire which comes late is seen
        at = datetime.now(UTC)
        eventually(lambda at=at: others <= _fired_since(system, at))
    assert not stopped & _fired_since(system, since)


def test_a_restart_without_any_job_file_stops_nothing(system: ProjectSystem) -> None:
    """Kernel and host restart on the broken project: every job fires, or leaves MISSED rows with the reason.

    `test_edits_restart.py` has the other edits.
    """
    ILLEGIBLE["no job file at all"](system.project)
    system.stop("host")
    system.stop("kernel")
    system.start_kernel()
    system.start_host()
    at = datetime.now(UTC)
    eventually(lambda: {"tick", "steady", "extra"} <= _fired_since(system, at) | _missed_with_a_reason(system, at))


def _missed_with_a_reason(system: ProjectSystem, at: datetime) -> set[str]:
    """Return the jobs of which a fire later than *at* is counted in a MISSED row that says why the job cannot run."""
    rows = list(system.api.list_runs(states=["MISSED"]))
    return {row.job_id for row in rows if row.reason and row.reason.code == "job_disabled" and row.fold.last > at}
