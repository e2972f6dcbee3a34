"""Secrets of a vault, from the reference in jobs.toml to the step, with real processes and a stand-in vault."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from secret_traces import traces_of
from team_system import TeamSystem, reason_of

from real_system import eventually
from vault_server import VaultServer, vault_server

pytestmark = pytest.mark.e2e

SECRET, ROTATED, TOKEN = "v4ult-s3cret/+1", "v4ult-s3cret/+2", "root-t0ken"

CODE = """
import hashlib, os

async def plain(**_):
    return 1

async def connects(*, connectors, **_):
    token = connectors.connector("own").table["token"]
    print("sends", token)
    return {"digest": hashlib.sha256(token.encode()).hexdigest(), "token": token}

async def pool(*, connectors, name: str, **_):
    engine = connectors.pools.engine(name)
    async with engine.connect() as db:
        await db.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (id INTEGER)")
    return {"file": engine.url.database.rpartition("/")[2]}

async def told(*, user, password, **_):
    print("logs in as", user, "with", password)
    seen = [name for name, value in os.environ.items() if "t0ken" in value]
    return {"user": user, "digest": hashlib.sha256(password.encode()).hexdigest(), "password": password, "seen": seen}
"""
PLUGIN = """
from types import SimpleNamespace
from nomaflow import hookimpl

@hookimpl
def nomaflow_contribute_connectors():
    return {"own": lambda name, table, registry: SimpleNamespace(table=table)}
"""
CONNECTORS = """
[pools.plain]
url = "sqlite:///plain.db"

[pools.deferred]
url = "sqlite:///${vault:kv/db#file}.db"

[connectors.own]
type = "own"
token = "${vault:kv/db#password}"
"""
JOBS = """
[[jobs]]
id = "connects"
overlap = "allow"
steps = [{ callable = "team:connects" }]

[[jobs]]
id = "pool"
overlap = "allow"
steps = [{ callable = "team:pool" }]

[[jobs]]
id = "told"
overlap = "allow"
steps = [{ callable = "team:told", op_kwargs = { user = "${vault:kv/db#user}", password = "${vault:kv/db#password}" } }]

[[jobs]]
id = "retried"
overlap = "allow"
[[jobs.steps]]
callable = "team:told"
op_kwargs = { user = "ann", password = "${vault:kv/db#password}" }
retry = { attempts = 20, base_seconds = 0.3 }

[[jobs]]
id = "plain"
overlap = "allow"
steps = [{ callable = "team:plain" }]

[[jobs]]
id = "missing"
steps = [{ callable = "team:told", op_kwargs = { user = "ann", password = "${vault:kv/nope#password}" } }]
"""


@pytest.fixture(scope="module")
def vault() -> Iterator[VaultServer]:
    """A vault with one secret."""
    with vault_server() as made:
        yield made


@pytest.fixture(autouse=True)
def _healthy(vault: VaultServer) -> None:
    """Begin each test with a vault in order."""
    vault.status, vault.delay, vault.body = 0, 0.0, None
    vault.secrets["kv/db"] = {"user": "ann", "password": SECRET, "file": "first"}


def _plugin_path(root: Path) -> str:
    """Return a PYTHONPATH with which a host finds the plugin, even if it was not installed with this tree."""
    path = os.environ.get("PYTHONPATH", "")
    if not any(each.value == "nomaflow_vault" for each in importlib.metadata.entry_points(group="nomaflow.plugins")):
        info = root / "path" / "vault-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vault\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[nomaflow.plugins]\nvault = nomaflow_vault\n")
        plugins = Path(__file__).parents[2] / "plugins"
        path = os.pathsep.join(filter(None, [str(info.parent), str(plugins), path]))
    return path


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, vault: VaultServer) -> Iterator[TeamSystem]:
    """A kernel, and a host that has a token for the vault."""
    root = tmp_path_factory.mktemp("vault")
    made = TeamSystem(root=root, forks_templates=True)
    made.start_kernel()
    files = {"jobs.toml": JOBS, "plugins/team.py": CODE, "plugins/own.py": PLUGIN, "connectors.toml": CONNECTORS}
    made.project("team", files)
    environ = {
        "VAULT_ADDR": vault.address,
        "VAULT_TOKEN": TOKEN,
        "VAULT_CLIENT_TIMEOUT": "4",
        "PYTHONPATH": _plugin_path(root),
    }
    made.start_host("team", environ=environ)
    yield made
    made.close()


def test_a_step_gets_fields_of_the_vault(system: TeamSystem) -> None:
    """It has the values, nothing written down has them, and the worker has no token of the vault."""
    done = system.end(system.start("told", None))
    last = done.steps[0].last
    assert last.state == "SUCCEEDED", last.error
    assert last.extras["password"] == "***"
    assert last.extras["seen"] == []
    assert last.extras["digest"] == sha256(SECRET.encode()).hexdigest()
    assert "with ***" in system.run_log(done.run_id)
    pids = [part.pid for part in system.parts.values()]
    assert traces_of(SECRET, [system.root / "kernel", system.root / "team"], pids) == []
    assert all(SECRET not in system.log(name) for name in system.parts)


def test_a_rotated_secret_counts_at_the_next_attempt(system: TeamSystem, vault: VaultServer) -> None:
    """Without a reload, within a second."""
    vault.secrets["kv/db"] = {"user": "ann", "password": ROTATED}
    wanted = sha256(ROTATED.encode()).hexdigest()
    eventually(lambda: system.end(system.start("told", None)).steps[0].last.extras["digest"] == wanted)


def test_a_vault_that_is_away_fails_the_attempt_and_a_retry_finds_it_back(
    system: TeamSystem, vault: VaultServer
) -> None:
    """The host serves on; the run succeeds once the vault is back, and each failed attempt says why."""
    vault.status = 503
    eventually(lambda: reason_of(system.end(system.start("told", None)).steps[0].last) == "secret_unavailable")
    run_id = system.start("retried", None)
    eventually(lambda: len(system.run(run_id).steps[0].attempts) > 1)
    vault.status = 0
    done = system.end(run_id)
    first, last = done.steps[0].attempts[0], done.steps[0].last
    assert (done.state, last.state) == ("SUCCEEDED", "SUCCEEDED"), last.error
    assert reason_of(first) == "secret_unavailable"
    assert "op_kwargs.password: ${vault:kv/db#password} is not available: the vault answered 503" in first.error


def test_connectors_take_secrets_of_a_vault_at_each_attempt(system: TeamSystem, vault: VaultServer) -> None:
    """A rotated token and another database count at the next attempt; only what needs an absent vault is unusable."""

    def outcome(job: str, **params: object) -> tuple[str, dict[str, object]]:
        last = system.end(system.start(job, None, **params)).steps[0].last
        return last.error, dict(last.extras)

    def digest(secret: str) -> str:
        return sha256(secret.encode()).hexdigest()

    eventually(lambda: outcome("connects")[1].get("digest") == digest(SECRET))
    assert outcome("connects")[1]["token"] == "***"
    assert outcome("pool", name="deferred")[1] == {"file": "first.db"}
    vault.secrets["kv/db"] = {"user": "ann", "password": ROTATED, "file": "other"}
    eventually(lambda: outcome("connects")[1].get("digest") == digest(ROTATED))
    assert outcome("pool", name="deferred")[1] == {"file": "other.db"}
    vault.status = 503
    eventually(lambda: "the vault answered 503" in outcome("connects")[0])
    assert outcome("pool", name="plain")[1] == {"file": "plain.db"}
    vault.status = 0
    eventually(lambda: outcome("pool", name="deferred")[1] == {"file": "other.db"})
    pids = [part.pid for part in system.parts.values()]
    assert traces_of(SECRET, [system.root / "kernel", system.root / "team"], pids) == []


def test_a_slow_vault_holds_up_nothing_else(system: TeamSystem, vault: VaultServer) -> None:
    """While an attempt waits for it, others of the same worker run, and the waiting one can be canceled at once."""
    vault.delay = 30.0
    assert system.end(system.start("plain", None)).state == "SUCCEEDED"
    time.sleep(1.1)  # what was read before is over by then
    waiting = system.start("retried", None)  # an attempt that has waited for too long is followed by another
    eventually(lambda: system.run(waiting).steps[0].attempts)
    began = time.monotonic()
    assert system.end(system.start("plain", None)).state == "SUCCEEDED"
    assert system.run(waiting).state == "RUNNING"
    system.api.cancel(waiting)
    assert system.end(waiting).state == "CANCELED"
    assert time.monotonic() - began < 20


def test_a_secret_that_the_vault_does_not_have_is_named(system: TeamSystem) -> None:
    """Its path is told; another attempt cannot help."""
    last = system.end(system.start("missing", None)).steps[0].last
    assert (last.state, reason_of(last)) == ("FAILED", "secret_unreadable")
    assert "the vault does not have the secret kv/nope" in last.error
