"""Secret params from the command line to the step, and into no file, list or log on the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from secret_traces import traces_of
from team_system import TeamSystem, reason_of

from nomaflow.client import InvalidRequest, TriggerOrder
from postgres_server import PostgresServer
from real_system import eventually

pytestmark = pytest.mark.e2e

SECRET, OTHER, WRONG = "p4ram-s3cret/+1", "p4ram-s3cret/+2", "p4ram-s3cret/+3"
CODE = """
import hashlib

def use(*, api_key: str, ctx, **_):
    print("uses", api_key)
    ctx.progress(1, 1, f"with {api_key}")
    return {"digest": hashlib.sha256(api_key.encode()).hexdigest(), "api_key": api_key, "params": dict(ctx.params)}

def fails(*, api_key: str, **_):
    raise RuntimeError("refused: " + api_key)

def count(*, api_key: int, **_):
    return api_key
"""
JOBS = """
[[jobs]]
id = "use"
overlap = "allow"
secret_params = ["api_key"]
steps = [{ callable = "team:use" }]

[[jobs]]
id = "fails"
secret_params = ["api_key"]
steps = [{ callable = "team:fails" }]

[[jobs]]
id = "count"
secret_params = ["api_key"]
steps = [{ callable = "team:count" }]
"""


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamSystem]:
    """A kernel on either store, and a host with jobs that take a secret."""
    made = TeamSystem(root=tmp_path_factory.mktemp("params"))
    server = None
    try:
        if request.param == "postgresql":
            server = PostgresServer()
            server.start()
            made.kernel_flags = (*made.kernel_flags, "--store", server.url("postgres"))
            (made.root / "store").symlink_to(server.folder)
        made.start_kernel()
        made.project("team", {"jobs.toml": JOBS, "plugins/team.py": CODE})
        made.start_host("team")
        yield made
    finally:
        made.close()
        if server is not None:
            server.stop()


def _traces(system: TeamSystem, secret: str) -> list[str]:
    folders = [(system.root / name).resolve() for name in ("kernel", "team", "store")]
    logs = [str(log) for log in system.root.glob("*.log") if secret.encode() in log.read_bytes()]
    return [*traces_of(secret, folders, [part.pid for part in system.parts.values()]), *logs]


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def test_a_secret_param_reaches_the_step_and_nothing_else(system: TeamSystem) -> None:
    """Its run shows ``***`` in params, results and log; a replay has it still; a given one replaces it."""
    done = system.cli("run", "use", "--secret", "api_key", "--wait", "-o", "json", stdin=SECRET + "\n")
    run = json.loads(done.out)
    assert run["params"] == {"api_key": "***"}
    assert run["steps"][0]["extras"] == {
        "digest": _digest(SECRET), "api_key": "***", "params": {"api_key": "***"},
    }  # fmt: skip
    assert "uses ***" in system.run_log(run["run_id"])
    replayed = json.loads(system.cli("replay", run["run_id"], "--wait", "-o", "json").out)
    assert replayed["steps"][0]["extras"]["digest"] == _digest(SECRET)
    refused = system.cli("run", "use", "--secret", "api_kee", code=2, stdin=OTHER + "\n")
    assert "job 'use' has no secret param 'api_kee'; did you mean 'api_key'?" in refused.err
    assert _traces(system, OTHER) == []
    changed = json.loads(system.cli("replay", run["run_id"], "-p", f"api_key={OTHER}", "--wait", "-o", "json").out)
    assert changed["steps"][0]["extras"]["digest"] == _digest(OTHER)
    failed = system.end(system.start("fails", None, api_key=SECRET)).steps[0].last
    assert failed.error == "RuntimeError: refused: ***"
    for secret in (SECRET, OTHER):
        assert _traces(system, secret) == []


def test_a_refused_value_is_not_quoted(system: TeamSystem) -> None:
    """The check before a run names the key and the expected type only."""
    with pytest.raises(InvalidRequest) as caught:
        system.api.trigger(TriggerOrder(job_id="count", params={"api_key": WRONG}))
    assert "api_key" in str(caught.value)
    assert WRONG not in str(caught.value) + str(dict(caught.value.fields))
    assert _traces(system, WRONG) == []


def test_a_restore_needs_the_key_only_for_the_runs_that_have_secrets(system: TeamSystem, tmp_path: Path) -> None:
    """On the same project a replay works; elsewhere, without the key, that run fails by name and others run."""
    if "--store" in system.kernel_flags:
        return  # a server's database is backed up with its own tools
    run_id = system.end(system.start("use", None, api_key=SECRET)).run_id
    backup = tmp_path / "backup.db"
    system.cli("backup", str(backup))
    assert SECRET.encode() not in backup.read_bytes()
    elsewhere = TeamSystem(root=tmp_path / "elsewhere")
    try:
        elsewhere.project("team", {"jobs.toml": JOBS, "plugins/team.py": CODE})
        elsewhere.cli("restore", str(backup), str(elsewhere.kernel_project), "--no-pause")
        elsewhere.start_kernel()
        elsewhere.start_host("team")
        lost = elsewhere.end(elsewhere.api.replay(run_id).run_id).steps[0].last
        assert (lost.state, reason_of(lost)) == ("FAILED", "secret_params_unreadable")
        assert "the secret param 'api_key' cannot be decrypted with the key" in lost.error
        assert elsewhere.end(elsewhere.start("use", None, api_key=OTHER)).state == "SUCCEEDED"
        elsewhere.stop("kernel")
        name = "secret-params.key"
        shutil.copy(system.kernel_project / ".nomaflow" / name, elsewhere.kernel_project / ".nomaflow" / name)
        elsewhere.start_kernel()
        eventually(lambda: elsewhere.instance("team"))
        found = elsewhere.end(elsewhere.api.replay(run_id).run_id).steps[0].last
        assert found.extras["digest"] == _digest(SECRET)
    finally:
        elsewhere.close()
