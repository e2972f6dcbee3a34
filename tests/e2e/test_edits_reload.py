"""An edit never loses a night: a reload that would take a job off its schedule by accident is refused and seen."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from team_system import TeamSystem

from real_system import Running, eventually

pytestmark = pytest.mark.e2e

CODE = "def work(**_):\n    return 1\n"
TICKS = '[[jobs]]\nid = "ticks"\nschedule = "* * * * * *"\nsteps = [{ callable = "team:work" }]\n'
OTHER = '\n[[jobs]]\nid = "other"\nsteps = [{ callable = "team:work" }]\n'
NIGHTLY = '[[jobs]]\nid = "nightly"\nschedule = "0 2 * * *"\nsteps = [{ callable = "team:work" }]\n'
FILES = {"jobs.toml": TICKS + OTHER, "plugins/team.py": CODE, "plugins/x/jobs.toml": NIGHTLY, "connectors.toml": ""}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamSystem]:
    """A kernel, and a team whose project has a job that fires every second."""
    made = TeamSystem(root=tmp_path_factory.mktemp("reload"), forks_templates=True)
    made.start_kernel()
    made.project("team", FILES)
    made.start_host("team")
    yield made
    made.close()


@pytest.fixture
def system(running: TeamSystem) -> TeamSystem:
    """Give each test the project as it was, and a host that has loaded it."""
    running.project("team", FILES)
    (running.root / "team" / "nomaflow.toml").write_text("[host]\ndrain_seconds = 2\n")
    assert running.api.reload_host("team", force=False)[0].accepted
    return running


@pytest.fixture
def host(system: TeamSystem) -> Running:
    """The team's host."""
    return system.parts["team"]


def _generation(system: TeamSystem) -> int:
    """Return the generation that the team's host serves."""
    instance = system.instance("team")
    assert instance is not None
    return instance.generation


def _reload(system: TeamSystem, *flags: str) -> tuple[int, dict[str, Any]]:
    done = system.command("reload", "team", "-o", "json", *flags)
    assert done.out, done.err
    return done.code, json.loads(done.out)["instances"][0]


def _fires(system: TeamSystem) -> bool:
    """Return True if the job that is due every second keeps firing."""
    since = datetime.now(UTC)
    return eventually(lambda: len(list(system.api.list_runs(job_id="ticks", states=["SUCCEEDED"], since=since))) >= 2)


def _events(system: TeamSystem, kind: str) -> list[dict[str, Any]]:
    """Return the data of every event of a kind so far."""
    found = []
    last = system.api.get_kernel().last_event_seq
    for event in system.api.watch_events(after_seq=1):
        if event.kind == kind:
            found.append(dict(event.data))
        if event.seq >= last:
            break
    return found


@pytest.mark.parametrize(
    ("file", "text", "place", "sentence"),
    [
        ("jobs.toml", TICKS + '\n[[jobs]]\nid = "other\n', ("jobs.toml", 7), "illegal character"),
        ("plugins/x/jobs.toml", "", ("plugins/x/jobs.toml", 0), "empty"),
        ("plugins/team.py", "\ndef work(:\n", ("plugins/team.py", 2), "SyntaxError"),
        ("nomaflow.toml", "[host]\n\nmax_sync = 'many'\n", ("nomaflow.toml", 3), "max_sync"),
        ("connectors.toml", "\n[pools.x\n", ("connectors.toml", 2), "expected"),
    ],
)
def test_a_broken_file_is_refused_with_file_and_line(
    system: TeamSystem, host: Running, file: str, text: str, place: tuple[str, int], sentence: str
) -> None:
    """``reload`` exits 1 and names the place; the jobs, their schedules and their code stay as they were."""
    serving, printed = _generation(system), len(host.log)
    good = (host.project / file).read_text()
    (host.project / file).write_text(text)
    code, answer = _reload(system)
    assert (code, answer["accepted"], answer["generation"]) == (1, False, serving)
    problem = answer["problems"][0]
    assert (problem["file"], problem["line"]) == place
    assert sentence in problem["message"]
    assert _fires(system)
    os.kill(host.pid, signal.SIGHUP)
    where = f"{place[0]}:{place[1]}" if place[1] else place[0]
    eventually(lambda: host.log[printed:].count(f"{where}: ") >= 2)
    assert "WARNING" in host.log[printed:]
    (host.project / file).write_text(good)
    assert _reload(system)[1]["accepted"]


def test_a_refusal_stands_until_a_load_succeeds(system: TeamSystem, host: Running) -> None:
    """``hosts``, ``jobs``, ``doctor``, ``run`` and an event show it; once a reload succeeds, nothing does."""
    (host.project / "plugins/team.py").write_text("\ndef work(:\n")
    assert _reload(system)[0] == 1
    _seen_everywhere(system, "plugins/team.py:2")
    (host.project / "plugins/team.py").write_text(CODE)
    assert _reload(system)[0] == 0
    _gone_everywhere(system)


def _seen_everywhere(system: TeamSystem, where: str) -> None:
    """Check that the refusal stands in every place where a person looks."""
    hosts, jobs = system.command("hosts").out, system.command("jobs").out
    assert "refused the load of" in hosts
    assert where in hosts
    assert "refused the load of" in jobs
    assert "ticks" in jobs
    doctor = system.command("doctor", "-o", "json")
    assert doctor.code == 1
    assert "hosts.load_refused" in doctor.out
    ran = system.command("run", "other", "--wait")
    assert ran.code == 0
    assert "was refused" in ran.err
    assert where in ran.err
    assert "newer than" not in ran.err
    events = eventually(lambda: _events(system, "host.reload_refused"))
    assert where.partition(":")[0] == events[-1]["problems"][0]["file"]


def _gone_everywhere(system: TeamSystem) -> None:
    eventually(lambda: "refused" not in system.command("hosts").out)
    assert "refused" not in system.command("jobs").out
    assert "hosts.load_refused" not in system.command("doctor", "-o", "json").out
    assert "refused" not in system.command("run", "other", "--wait").err
    assert _events(system, "host.reloaded")


def test_force_serves_what_can_be_read(system: TeamSystem, host: Running) -> None:
    """``--force`` makes the edits of the other jobs live and ends the refusal."""
    serving = _generation(system)
    edited = OTHER.replace('"other"', '"other"\ndescription = "new words"')
    (host.project / "jobs.toml").write_text(TICKS + "timout_seconds = 5\n" + edited)
    assert _reload(system)[0] == 1
    code, answer = _reload(system, "--force")
    assert (code, answer["accepted"], answer["generation"]) == (0, True, serving + 2)
    eventually(lambda: system.api.get_job("other").description == "new words")
    assert "refused" not in system.command("hosts").out


def test_a_legible_removal_is_named(system: TeamSystem, host: Running) -> None:
    """The answer of a reload names jobs that are gone and jobs that are new; both are accepted."""
    serving = _generation(system)
    (host.project / "plugins/x/jobs.toml").unlink()
    (host.project / "jobs.toml").write_text(TICKS + OTHER.replace('"other"', '"another"'))
    done = system.command("reload", "team")
    assert done.code == 0, done.out
    assert f"✔ reloaded team: 2 jobs, 1 callable (generation {serving + 1})" in done.out
    assert "removed: nightly, other" in done.out
    assert "added: another" in done.out
    many = "".join(OTHER.replace('"other"', f'"many-{number:02}"') for number in range(62))
    (host.project / "jobs.toml").write_text(TICKS + many)
    assert "added: many-00, " in system.command("reload", "team").out
    (host.project / "jobs.toml").write_text(TICKS)
    said = system.command("reload", "team").out
    assert "removed: many-00, many-01, " in said
    assert ", many-48, many-49 and 12 more" in said


def test_a_setting_that_waits_for_a_restart_is_named(system: TeamSystem) -> None:
    """A host reads most keys of [host] at its start only: the answer says of which the change is not in force."""
    settings = system.root / "team" / "nomaflow.toml"
    settings.write_text('[host]\ndrain_seconds = 2\nname = "billing"\nmax_parallel = 3\n')
    code, outcome = _reload(system)
    waiting = {each["path"]: each["line"] for each in outcome["problems"] if each["code"] == "restart_needed"}
    assert (code, outcome["accepted"], waiting["host.name"]) == (0, True, 3)
    assert "host.max_parallel" not in waiting
    assert "once the host is restarted" in system.command("reload", "team").out


def test_jobs_that_only_the_kernel_disables_are_named(system: TeamSystem, host: Running) -> None:
    """A misspelt host and a job that was never valid: the load serves, but ``reload`` says why each job is disabled.

    ``reload`` exits 1 for as long as they are, also if nothing else was changed.
    """
    aimed = OTHER.replace('"other"', '"aimed"\nhost = "taem"')
    never = OTHER.replace('"other"', '"never"\ntimout_seconds = 5')
    (host.project / "jobs.toml").write_text(TICKS + aimed + never)
    for added in ("added: aimed, never", ""):
        done = system.command("reload", "team")
        assert done.code == 1, done.out
        assert "! reloaded team: 4 jobs, 1 callable (generation " in done.out
        assert added in done.out
        assert "✘ job 'aimed' is disabled: no host 'taem' accepts jobs of host 'team'" in done.out
        assert "in jobs.toml › jobs[1].host" in done.out
        assert "✘ job 'never' is disabled: unknown key 'timout_seconds'" in done.out
    code, answer = _reload(system)
    assert (code, answer["accepted"]) == (1, True)
    assert [each["code"] for each in answer["problems"]] == ["job_disabled", "job_disabled"]
    assert system.command("reload", "team", "--force").code == 0
    (host.project / "jobs.toml").write_text(TICKS)
    code, answer = _reload(system)
    assert (code, answer["problems"]) == (0, [])


def test_a_manifest_that_the_kernel_refuses_is_a_refused_load(system: TeamSystem, host: Running) -> None:
    """One with too many values: ``reload`` exits 1 and says why; the refusal stands until a load succeeds."""
    many = (
        f'\n[[jobs]]\nid = "many"\nparams = {{ text = "{"," * 1_000_000}" }}\nsteps = [{{ callable = "team:work" }}]\n'
    )
    (host.project / "jobs.toml").write_text(TICKS + OTHER + many)
    done = system.command("reload", "team")
    why = "values, expected at most 1,000,000; give the host fewer jobs or callables"
    assert done.code == 1, done.out
    assert (
        "✘ team: the kernel refused the load: the jobs stay as they were, and the new code serves (generation "
        in done.out
    )
    assert why in done.out
    assert "--force" not in done.out
    assert "the kernel refused the load of" in system.command("hosts").out
    doctor = json.loads(system.command("doctor", "-o", "json").out)
    (finding,) = [each for each in doctor["findings"] if each["check"] == "hosts.load_refused"]
    assert "the kernel refused its load" in finding["message"]
    assert why in finding["message"]
    ran = system.command("run", "other", "-o", "json")
    assert "so its jobs stay as they were" in ran.err
    first = json.loads(ran.out)["run_id"]
    eventually(lambda: system.api.get_run(first).state == "SUCCEEDED")
    system.stop("kernel")
    system.start_kernel()
    eventually(lambda: "the kernel refused the load of" in system.command("hosts").out)
    run_id = system.start("other")
    eventually(lambda: (reason := system.api.get_run(run_id).reason) and reason.code == "waiting_for_host")
    (host.project / "jobs.toml").write_text(TICKS + OTHER)
    assert _reload(system)[0] == 0
    _gone_everywhere(system)
    eventually(lambda: system.api.get_run(run_id).state == "SUCCEEDED")
    assert _events(system, "host.reload_refused")[-1]["problems"][0]["code"] == "manifest_refused"


def test_a_refusal_in_words(system: TeamSystem, host: Running) -> None:
    """``reload`` says that the last good code stays in use, gives place, sentence and way out, and explains ``--force``."""
    (host.project / "jobs.toml").write_text(TICKS + "timout_seconds = 5\n" + OTHER)
    done = system.command("reload", "team")
    assert done.code == 1
    said = done.out
    assert "✘ team refused the load: the last good code stays in use" in said
    assert "jobs.toml:5" in said
    assert "did you mean 'timeout_seconds'?" in said
    assert "--force" in said


def test_a_host_without_code_says_why(system: TeamSystem) -> None:
    """A first load that fails is a refusal too: the host attaches, serves nothing, and is mended by a reload."""
    system.stop("team")
    (system.root / "team" / "plugins" / "team.py").write_text("import os\nos._exit(3)\n")
    host = system.start_host("team", serves=False)
    eventually(lambda: "the host has no code to run until a reload succeeds" in host.log)
    eventually(lambda: (view := system.host_view("team")) is not None and view.state == "ATTACHED")
    eventually(lambda: "refused the load of" in system.command("hosts").out)
    assert "hosts.load_refused" in system.command("doctor", "-o", "json").out
    (host.project / "plugins" / "team.py").write_text(CODE)
    assert _reload(system)[0] == 0
    assert _fires(system)
