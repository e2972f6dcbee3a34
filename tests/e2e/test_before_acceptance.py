"""Between a trigger's arrival and its acceptance: values are checked, loads that are due are waited for, so are hosts."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from team_system import TeamSystem

from nomaflow.client import (
    InvalidRequest,
    NotFound,
    ProjectAddress,
    Refused,
    ReplayOrder,
    SyncKernelClient,
    TriggerOrder,
)
from nomaflow.client.values import Triggered
from real_system import eventually, launch_up

pytestmark = pytest.mark.e2e

CODE = """
import os, signal, time
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

VERSION = 100

def hangs(value):
    time.sleep(600)

def kills(value):
    os.kill(os.getpid(), signal.SIGKILL)

def writes(*, marker):
    Path(marker).write_text("written")

def reads(*, min_rows: int = 5, limit: int = 7, **_):
    return min_rows

def strict(*, min_rows: int = 5):
    return min_rows

def hostile(*, slow: Annotated[int, AfterValidator(hangs)] = 0, deadly: Annotated[int, AfterValidator(kills)] = 0):
    return 1

def version(*, told=0, **_):
    return VERSION + told
"""
JOBS = """
[[jobs]]
id = "two"
overlap = "allow"
steps = [
  { name = "write", callable = "team:writes" },
  { name = "read", callable = "team:reads" },
  { name = "strict", callable = "team:strict" },
]

[[jobs]]
id = "hostile"
overlap = "allow"
cancel_grace_seconds = 0.1
steps = [{ name = "only", callable = "team:hostile" }]

[[jobs]]
id = "version"
overlap = "allow"
steps = [{ name = "only", callable = "team:version", op_kwargs = { told = 0 } }]
"""
FILES = {"jobs.toml": JOBS, "plugins/team.py": CODE}
NEW_JOB = '\n[[jobs]]\nid = "new"\nsteps = [{ callable = "team:version" }]\n'


def _system(root: Path) -> TeamSystem:
    """Start a kernel, and write the project of a host."""
    made = TeamSystem(root=root, forks_templates=True)
    made.start_kernel()
    made.project("team", FILES)
    made.client()
    return made


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[TeamSystem]:
    """A kernel, and the project of a host that it has never heard of."""
    made = _system(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module", params=[()])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamSystem]:
    """A kernel and a host, which is started with the flags of the parameter."""
    made = _system(tmp_path_factory.mktemp("acceptance"))
    made.start_host("team", *request.param)
    yield made
    made.close()


@pytest.fixture
def system(running: TeamSystem) -> Iterator[TeamSystem]:
    """Give each test the project as it was, and a host that has loaded it."""
    running.project("team", FILES)
    assert running.api.reload_host("team", force=False)[0].accepted
    yield running
    if "team" not in running.parts:
        running.start_host("team")


watching = pytest.mark.parametrize("running", [("--watch",)], indirect=True, ids=["watching"])


def _order(system: TeamSystem, **given: object) -> TriggerOrder:
    params = {"marker": str(system.root / "marker"), **(given.pop("params", None) or {})}  # type: ignore[dict-item]  # tests know what they give
    return TriggerOrder(job_id="two", params=params, **given)  # type: ignore[arg-type]  # as above


def _runs(system: TeamSystem) -> int:
    """Return how many runs there are."""
    return len(list(system.api.list_runs()))


def _unwarned(client: SyncKernelClient, job: str) -> str:
    """Start a job until the trigger neither says that a host still loads, nor warns that the run may use what was before."""

    def start() -> str:
        try:
            triggered = client.trigger(job)
        except Refused as refused:
            if refused.reason != "HOST_LOADING":
                raise
            return ""
        return "" if any("still loading" in warning for warning in triggered.warnings) else triggered.run_id

    return eventually(start)


def test_a_bad_value_is_refused_before_anything_runs(system: TeamSystem) -> None:
    """A value that the third step would refuse is refused at the trigger, by name; nothing has run, and a good one does."""
    client, before = system.api, _runs(system)
    with pytest.raises(InvalidRequest) as caught:
        client.trigger(_order(system, params={"min_rows": "many"}))
    assert caught.value.reason == "VALUE_INVALID"
    assert set(caught.value.fields) == {"params_json.min_rows"}
    assert "min_rows" in caught.value.message
    assert "'many'" in caught.value.message
    assert "int" in caught.value.message
    with pytest.raises(InvalidRequest) as caught:
        client.trigger(_order(system, op_kwargs={"read": {"limit": [1]}, "strict": {"min_row": 3}}))
    assert set(caught.value.fields) == {
        "step_values.read.op_kwargs_json.limit",
        "step_values.strict.op_kwargs_json.min_row",
    }
    assert "did you mean 'min_rows'?" in caught.value.fields["step_values.strict.op_kwargs_json.min_row"]
    with pytest.raises(InvalidRequest, match="has no step 'raed'; did you mean 'read'"):
        client.trigger(_order(system, op_kwargs={"raed": {}}))
    with pytest.raises(InvalidRequest, match="NOT_SET_HERE"):
        client.trigger(_order(system, op_kwargs={"read": {"limit": "${NOT_SET_HERE}"}}))
    assert _runs(system) == before
    assert not (system.root / "marker").exists()
    run = system.end(client.trigger(_order(system, params={"min_rows": "12"})).run_id)
    assert (run.state, run.rows_affected) == ("SUCCEEDED", 24)


def test_a_batch_and_a_replay_are_checked_as_well(system: TeamSystem) -> None:
    """Each item of a batch has its own answer; a replay with a value that does not fit is refused."""
    client, before = system.api, _runs(system)
    good, bad, off = client.trigger_many(
        [
            _order(system),
            _order(system, params={"min_rows": "many"}),
            _order(system, params={"min_rows": "many"}, steps={"read": False, "strict": False, "write": True}),
        ]
    )
    assert isinstance(good, Triggered)
    assert isinstance(bad, InvalidRequest)
    assert bad.reason == "VALUE_INVALID"
    assert isinstance(off, InvalidRequest)
    assert off.reason == "BAD_REQUEST"  # no step that runs takes it
    run = system.end(good.run_id)
    assert run.state == "SUCCEEDED"
    with pytest.raises(InvalidRequest) as caught:
        client.replay(ReplayOrder(run_id=run.run_id, params={"min_rows": "many"}))
    assert caught.value.reason == "VALUE_INVALID"
    assert _runs(system) == before + 1


def test_a_repeat_is_not_refused_by_a_later_check(system: TeamSystem) -> None:
    """A request that was accepted is answered with its run, though the code has changed and would refuse it now."""
    host = system.parts["team"]
    client = system.api
    order = _order(system, params={"min_rows": 3}, request_id="once")
    first = client.trigger(order)
    plugin = host.project / "plugins" / "team.py"
    plugin.write_text(CODE.replace("min_rows: int = 5", "min_rows: bool = False"))
    assert system.command("reload", "team").code == 0
    with pytest.raises(InvalidRequest):
        client.trigger(_order(system, params={"min_rows": 3}))
    again = client.trigger(order)
    assert (again.run_id, again.deduplicated) == (first.run_id, True)


def test_validate_only_answers_and_makes_no_run(system: TeamSystem) -> None:
    """``run --validate`` says what would be refused, with exit code 1, and makes no run either way."""
    before = _runs(system)
    marker = json.dumps(str(system.root / "marker"))
    good = system.command("run", "two", "--validate", "-p", f"marker={marker}", "-p", "min_rows=3")
    assert good.code == 0, good.out + good.err
    bad = system.command(
        "run", "two", "--validate", "-p", f"marker={marker}", "-p", 'min_rows="many"', "--op-kwarg", "strict.min_row=3"
    )
    assert bad.code == 1
    said = " ".join(bad.out.split())
    assert "cannot take min_rows = 'many' (str) as int" in said
    assert "did you mean 'min_rows'?" in said
    shown = system.command("run", "two", "--validate", "-p", 'min_rows="many"', "-o", "json")
    assert shown.code == 1
    told = json.loads(shown.out)
    assert (told["accepted"], told["reason"]) == (False, "VALUE_INVALID")
    assert [each["field"] for each in told["problems"]] == ["params_json.min_rows"]
    assert system.command("run", "tow", "--validate").code == 1
    many = system.api.trigger_many(
        [_order(system, validate_only=True), _order(system, params={"min_rows": "x"}, validate_only=True)]
    )
    assert isinstance(many[0], Triggered)
    assert many[0].run_id == ""
    assert isinstance(many[1], InvalidRequest)
    assert _runs(system) == before


@pytest.mark.parametrize("key", ["slow", "deadly"])
def test_a_check_that_hangs_or_dies_refuses_nothing(system: TeamSystem, key: str) -> None:
    """A validator that hangs, or kills its process, leaves the run to its attempt, and the host keeps checking."""
    host = system.parts["team"]
    client = system.api
    accepted = client.trigger(TriggerOrder(job_id="hostile", op_kwargs={"only": {key: 3}}))
    assert any("not checked" in warning for warning in accepted.warnings)
    client.cancel(accepted.run_id)
    assert system.end(accepted.run_id).terminal
    with pytest.raises(InvalidRequest):
        client.trigger(_order(system, params={"min_rows": "many"}))
    assert host.process.poll() is None


def test_values_are_accepted_where_no_host_is_attached(system: TeamSystem) -> None:
    """A run without a host is accepted as before, and validate says that the values were not checked."""
    system.stop("team")
    client = system.api
    eventually(lambda: system.instance("team") is None)
    warned = client.trigger(_order(system, params={"min_rows": "many"}, validate_only=True)).warnings
    assert any("not checked" in warning for warning in warned)
    assert client.trigger(_order(system, params={"min_rows": "many"})).run_id


@watching
def test_a_trigger_at_the_save_runs_the_new_code(system: TeamSystem) -> None:
    """A run that starts right after a save under --watch uses the saved code: Python and TOML, three times each.

    Where a load takes longer than a trigger waits, it says so.
    """
    host = system.parts["team"]
    plugin, jobs = host.project / "plugins" / "team.py", host.project / "jobs.toml"
    for number in range(101, 104):
        plugin.write_text(CODE.replace("VERSION = 100", f"VERSION = {number}"))
        assert system.end(_unwarned(system.api, "version")).rows_affected == number
    for number in range(1, 4):
        jobs.write_text(JOBS.replace("told = 0", f"told = {number}"))
        assert system.end(_unwarned(system.api, "version")).rows_affected == 103 + number


def test_two_saves_within_a_second_are_two(fresh: TeamSystem) -> None:
    """A save of the same length within the same second as the one before is not taken for what was compiled then."""
    plugin = fresh.root / "team" / "plugins" / "team.py"
    second = int(time.time()) + 3600  # so that however slow the machine is, both are of one second that is not over
    os.utime(plugin, (second, second))
    fresh.start_host("team", environ={"PYTHONDONTWRITEBYTECODE": ""})
    assert fresh.end(fresh.start("version")).rows_affected == 100
    plugin.write_text(CODE.replace("VERSION = 100", "VERSION = 101"))
    os.utime(plugin, (second, second + 0.5))
    assert fresh.command("reload", "team").code == 0
    assert fresh.end(fresh.start("version")).rows_affected == 101


@watching
def test_a_job_that_was_just_saved_is_known(system: TeamSystem) -> None:
    """A job can be started under --watch right after it was written, and no longer after it was removed."""
    host = system.parts["team"]
    jobs = host.project / "jobs.toml"
    jobs.write_text(JOBS + NEW_JOB)
    assert system.end(_unwarned(system.api, "new")).state == "SUCCEEDED"
    jobs.write_text(JOBS)
    _unwarned(system.api, "version")
    with pytest.raises(NotFound, match="no longer has it"):
        system.start("new")


@watching
def test_a_refused_load_does_not_hold_triggers_up(system: TeamSystem) -> None:
    """A save under --watch that cannot be loaded leaves triggers to the previous code, and their answers say so."""
    host = system.parts["team"]
    (host.project / "plugins" / "team.py").write_text("VERSION = (\n")
    triggered = system.api.trigger("version")
    assert system.end(triggered.run_id).rows_affected == 100
    eventually(lambda: (seen := system.instance("team")) is not None and seen.refused_load)
    began = time.monotonic()
    for _ in range(5):
        system.api.trigger("version")
    assert time.monotonic() - began < 5 * 2  # none of them waits for a load that is over


def test_a_trigger_right_at_the_start_of_a_host(fresh: TeamSystem) -> None:
    """A trigger while a host loads for the first time waits for its jobs; a misspelt one is then not found."""
    seen = fresh.root / "seen"
    loads = f"import time\nfrom pathlib import Path\nwhile not Path({str(seen)!r}).exists():\n    time.sleep(0.01)\n"
    (fresh.root / "team" / "plugins" / "team.py").write_text(f"{loads}time.sleep(0.7)\n{CODE}")
    fresh.start_host("team", serves=False)
    eventually(lambda: (view := fresh.host_view("team")) is not None and view.state == "LOADING")
    seen.touch()
    assert fresh.end(_unwarned(fresh.api, "version")).rows_affected == 100
    with pytest.raises(NotFound):
        fresh.start("versoin")


def test_a_host_that_never_finishes_loading(fresh: TeamSystem) -> None:
    """A trigger of a job that may still come soon gets HOST_LOADING with a retry time; hosts shows LOADING."""
    (fresh.root / "team" / "plugins" / "team.py").write_text("import time\ntime.sleep(600)\n")
    fresh.start_host("team", serves=False)
    eventually(lambda: (view := fresh.host_view("team")) is not None and view.state == "LOADING")
    began = time.monotonic()
    with pytest.raises(Refused) as caught:
        fresh.start("version")
    assert time.monotonic() - began < 30
    assert caught.value.reason == "HOST_LOADING"
    assert caught.value.retry_after
    said = fresh.command("run", "version")
    assert said.code != 0
    assert "host 'team' is still loading" in " ".join(said.err.split())
    assert "LOADING" in fresh.command("hosts").out


def test_a_host_whose_first_load_failed_is_not_loading(fresh: TeamSystem) -> None:
    """A job that the host's failed load cannot bring is not waited for: an unknown job is refused at once."""
    (fresh.root / "team" / "plugins" / "team.py").write_text("import os\nos._exit(3)\n")
    fresh.start_host("team", serves=False)
    eventually(lambda: (view := fresh.host_view("team")) is not None and view.state == "ATTACHED")
    with pytest.raises(NotFound):
        fresh.start("version")


def test_a_frozen_host_holds_nothing_up_for_long(system: TeamSystem) -> None:
    """A host that does not answer a check leaves the run to its attempt."""
    host = system.parts["team"]
    os.kill(host.pid, signal.SIGSTOP)
    try:
        accepted = system.api.trigger(_order(system, params={"min_rows": "many"}))
    finally:
        os.kill(host.pid, signal.SIGCONT)
    assert any("not checked" in warning for warning in accepted.warnings)
    assert system.end(accepted.run_id).state == "FAILED"


def test_a_trigger_right_after_up_has_begun(tmp_path: Path) -> None:
    """A job that the host of ``up`` will bring is waited for once the kernel answers, and is never "not found"."""
    project = tmp_path / "team"
    (project / "plugins").mkdir(parents=True)
    (project / "jobs.toml").write_text(JOBS)
    (project / "plugins" / "team.py").write_text(CODE)
    up = launch_up(project, "-o", "json", "--no-console", log_file=tmp_path / "up.log")
    try:
        eventually((project / ".nomaflow" / "address").exists)
        with SyncKernelClient(ProjectAddress(project=project)) as client:
            _unwarned(client, "version")
            assert [run.job_id for run in client.list_runs()] == ["version"]
    finally:
        up.stop(signal.SIGINT)
