"""One bad pool or connector spoils nothing else; variables from files; connectors and jobs of the original."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from team_system import TeamSystem

from cli_command import run_command
from machine_parts import need
from nomaflow.client import TriggerOrder

pytestmark = pytest.mark.e2e

CODE = """
import os
from sqlalchemy import text

async def pool(*, connectors, name: str, **_):
    async with connectors.pools.engine(name).connect() as db:
        return {"one": (await db.execute(text("SELECT 1"))).scalar_one()}

async def query(*, connectors, connector: str, name: str, values: dict, **_):
    sql = connectors.sql(connector)
    if name.startswith("read"):
        return {"rows": await sql.fetch_all(name, values)}
    return await sql.execute(name, values)

async def call(*, connectors, connector: str, endpoint: str, values: dict, **_):
    return {"answer": (await connectors.api(connector).call(endpoint, params=values)).json()}

def told(*, value: str, **_):
    names = ("PLAIN", "DB_FILE_NAME", "DB_FILE_NAME_FILE", "SHARED")
    print("said by", _["ctx"].step_name)
    return {"value": value, "seen": {name: os.environ[name] for name in names if name in os.environ}}
"""
CONNECTORS = """
[pools.default]
url = "sqlite:///${DB_FILE_NAME}"
trim_strings = true
schemas = { MAIN = "main" }
max_rows = 500

[pools.warehouse]
url = "sqlite:///w.db"
password = "${WAREHOUSE_PASSWORD}"

[pools.typo]
url = "sqlite:///t.db"
pasword = "x"

[connectors.crm]
type = "api"
base_url = "http://h"
auth = { type = "bearer", token = "${CRM_TOKEN}" }

[connectors.secret]
type = "api"
base_url = "http://h"
auth_type = "bearer"
auth_token = "ENC:abcdef"

[connectors.notes]
type = "sql"
licensed = true
home = "menu"
[[connectors.notes.tables]]
name = "note"
label = "Notes"
post = { sql = "CREATE TABLE IF NOT EXISTS note (id INTEGER, body TEXT)" }
put = { sql = "INSERT INTO #SCHEMA.MAIN#.note#DBLINK.X# VALUES (:id, :body)", params = [{ name = "body" }] }
[[connectors.notes.queries]]
name = "read_notes"
sql = { default = "SELECT nothing", sqlite = "SELECT id, body FROM #SCHEMA.MAIN#.note" }
label = "All"
[[connectors.notes.queries]]
name = "purge"
sql = "DELETE FROM note"

[connectors.service]
type = "api"
base_url = "http://127.0.0.1:%d/v1"
auth_type = "api_key"
auth_token = "${SERVICE_KEY}"
auth_api_key_header = "X-Team-Key"
default_headers = { "X-From" = "nomaflow" }
timeout = 20
verify_ssl = false
[[connectors.service.endpoints]]
name = "save"
method = "POST"
path = "/notes/{{id}}"
query_params = { kind = "{{kind}}" }
body = '{"text": "{{text}}", "n": {{n}}}'
params = [{ name = "kind", default = "short" }]
"""
JOBS = """
[[jobs]]
id = "pool"
overlap = "allow"
steps = [{ callable = "team:pool" }]
[[jobs]]
id = "query"
overlap = "allow"
steps = [{ callable = "team:query" }]
[[jobs]]
id = "call"
overlap = "allow"
steps = [{ callable = "team:call" }]
[[jobs]]
id = "told"
description = "$${LITERAL}"
overlap = "allow"
install_step = 3
presets = [
  { name = "IN / OUT only", steps = { "OUT" = false, "gone" = true } },
  { name = "IN / OUT only", params = { a = 1 } },
]
[[jobs.steps]]
name = "IN / OUT"
callable = "team:told"
op_kwargs = { value = "${PLAIN}/${OWN}/$${PLAIN}" }
[[jobs.steps]]
name = "OUT"
callable = "team:told"
op_kwargs = { value = "${DB_FILE_NAME:-withheld}" }
"""


class _Service(BaseHTTPRequestHandler):
    """Answers with what it was sent."""

    def do_POST(self) -> None:
        """Tell path, headers and body back."""
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        names = ("X-Team-Key", "X-From", "Content-Type")
        answer = {"path": self.path, "body": body, **{name: self.headers[name] for name in names}}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamSystem]:
    """A kernel and a host, whose variables come from three places, and a web service."""
    root = tmp_path_factory.mktemp("alone")
    with HTTPServer(("127.0.0.1", 0), _Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = TeamSystem(root=root, forks_templates=True)
        made.start_kernel()
        connectors = CONNECTORS.replace("%d", str(server.server_port))
        made.project("team", {"jobs.toml": JOBS, "plugins/team.py": CODE, "connectors.toml": connectors})
        (root / "team" / "connectors.toml").chmod(0o600)
        (root / "secret").write_text("data.db\n")
        (root / "team" / ".env").write_text(
            "# ours\nexport PLAIN='from file' # yes\nSHARED=file\nSERVICE_KEY=\"k-12345\"\n"
        )
        (root / "own").write_text("from NAME_FILE\r\n")
        environ = {"DB_FILE_NAME_FILE": str(root / "secret"), "SHARED": "process", "OWN_FILE": str(root / "own")}
        made.start_host("team", environ=environ, settings=['env_file = ".env"'])
        yield made
        made.close()
        server.shutdown()


def _outcome(system: TeamSystem, job: str, **params: object) -> tuple[str, str, dict[str, object]]:
    last = system.end(system.start(job, None, **params)).steps[0].last
    return last.state, last.error, dict(last.extras)


def test_each_pool_and_connector_stands_alone(system: TeamSystem) -> None:
    """The good pool works; a bad one fails on use, with its variable or key; only an absent one is called absent."""
    assert _outcome(system, "pool", name="default") == ("SUCCEEDED", "", {"one": 1})
    expected = {
        "warehouse": ("'warehouse' cannot be used: connectors.toml", "'WAREHOUSE_PASSWORD' is not set"),
        "typo": ("connectors.toml: pools.typo.pasword", "did you mean 'password'?"),
        "nope": ("there is no pool 'nope'", "'warehouse'"),
    }
    for name, words in expected.items():
        state, error, _ = _outcome(system, "pool", name=name)
        assert state == "FAILED"
        for part in words:
            assert part in error
        assert ("there is no pool" in error) is (name == "nope")
    for name, words in {"crm": ("'CRM_TOKEN' is not set",), "secret": ("ENC:", "${NAME}")}.items():
        state, error, _ = _outcome(system, "call", connector=name, endpoint="e", values={})
        assert (state, "cannot be used" in error) == ("FAILED", True)
        for part in words:
            assert part in error
        assert "abcdef" not in error


def test_connectors_of_the_original_work(system: TeamSystem) -> None:
    """Tables and queries run with schema, dialect, defaults and writable; an endpoint fills its places."""
    assert _outcome(system, "query", connector="notes", name="note_post", values={})[0] == "SUCCEEDED"
    assert (
        _outcome(system, "query", connector="notes", name="note_put", values={"id": 1, "body": "a  "})[0] == "SUCCEEDED"
    )
    assert _outcome(system, "query", connector="notes", name="note_put", values={"id": 2})[0] == "SUCCEEDED"
    _, _, extras = _outcome(system, "query", connector="notes", name="read_notes", values={})
    assert extras["rows"] == [{"id": 1, "body": "a"}, {"id": 2, "body": None}]
    state, error, _ = _outcome(system, "query", connector="notes", name="purge", values={})
    assert (state, "a DELETE and has no writable = true" in error) == ("FAILED", True)
    values = {"id": "a/b", "text": 'say "hi"', "n": 5}
    state, error, extras = _outcome(system, "call", connector="service", endpoint="save", values=values)
    assert (state, error) == ("SUCCEEDED", "")
    answer = extras["answer"]
    assert isinstance(answer, dict)
    assert answer.pop("body") == '{"text": "say \\"hi\\"", "n": 5}'
    key = answer.pop("X-Team-Key")
    assert key in ("k-12345", "***")
    assert answer == {"path": "/v1/notes/a%2Fb?kind=short", "X-From": "nomaflow", "Content-Type": "application/json"}
    host = system.host_view("team")
    assert host is not None
    told = [problem for problem in host.problems if problem.code == "unused_key" and problem.file == "connectors.toml"]
    assert len(told) == 1
    for name in ("pools.default.max_rows", "connectors.notes.licensed", "connectors.notes.home"):
        assert name in told[0].message


def test_variables_come_from_files_and_odd_names_run(system: TeamSystem) -> None:
    """The process overrides env_file, each attempt reads NAME_FILE, a reload reads again; a step may have a slash."""
    run_id = system.start("told", None)
    run = system.end(run_id)
    assert [step.last.state for step in run.steps] == ["SUCCEEDED", "SUCCEEDED"]
    first, second = (dict(step.last.extras) for step in run.steps)
    assert first == {
        "value": "from file/from NAME_FILE/${PLAIN}",
        "seen": {"PLAIN": "from file", "SHARED": "process"},
    }
    assert second["value"] == "withheld"
    assert "IN / OUT" in system.command("show", run_id).out
    lines = system.command("logs", run_id, "--step", "IN / OUT").out
    assert "said by IN / OUT" in lines
    assert "said by OUT" not in lines
    switched = system.command(
        "run", "told", "--step", "IN / OUT=off", "--op-kwarg", "OUT.value=x", "--wait", "-o", "json"
    )
    assert [step["state"] for step in json.loads(switched.out)["steps"]] == ["SKIPPED", "SUCCEEDED"]
    preset = system.end(system.api.trigger(TriggerOrder(job_id="told", preset="IN / OUT only")).run_id)
    assert [step.last.state for step in preset.steps] == ["SUCCEEDED", "SKIPPED"]
    env_file = system.root / "team" / ".env"
    env_file.write_text(env_file.read_text().replace("from file", "reloaded"))
    reloaded = json.loads(system.command("reload", "team", "-o", "json").out)
    assert [one["accepted"] for one in reloaded["instances"]] == [True]
    assert str(_outcome(system, "told")[2]["value"]).startswith("reloaded/")


def test_a_file_that_endangers_its_secrets_gives_none_away(system: TeamSystem) -> None:
    """A10: a literal password that others may read fails its pool; 10 MB and a link to another's file fail the load."""
    need(root=True)
    file, theirs = system.root / "team" / "connectors.toml", system.root / "theirs.toml"
    theirs.write_text('[pools.default]\nurl = "postgresql://me:hunter2@h/d"\n')
    os.chown(theirs, 12_345, 12_345)
    literal = CONNECTORS.replace("sqlite:///${DB_FILE_NAME}", "postgresql://me:hunter2@h/d").replace("%d", "1")

    def reloaded() -> tuple[bool, str]:
        [one] = json.loads(system.command("reload", "team", "-o", "json").out)["instances"]
        told = one["message"] + " ".join(f"{each['path']}: {each['message']}" for each in one["problems"])
        assert "hunter2" not in told
        assert "connectors.toml" in one["message"] or one["accepted"]
        return one["accepted"], told

    file.write_text("# hunter2\n" * 1_000_000)
    accepted, told = reloaded()
    assert (accepted, "larger than" in told) == (False, True)
    file.unlink()
    file.symlink_to(theirs)
    accepted, told = reloaded()
    assert (accepted, "link to a file of another user" in told) == (False, True)
    file.unlink()
    file.write_text(literal)
    file.chmod(0o644)
    accepted, told = reloaded()
    assert (accepted, "pools.default.url: it is a literal credential, and others may read" in told) == (True, True)
    state, error, _ = _outcome(system, "pool", name="default")
    assert (state, "chmod 600" in error) == ("FAILED", True)
    assert _outcome(system, "told")[0] == "SUCCEEDED"
    checked = run_command("check", "--no-import", folder=system.root / "team")
    assert (checked.code, "connectors.toml:3" in checked.out) == (1, True)
    host = system.host_view("team")
    assert "hunter2" not in f"{checked}{error}{host}{system.log('team')}{system.log('kernel')}"


def test_check_exits_by_what_it_prints(tmp_path: Path) -> None:
    """An unset variable of a connector is a warning and exit 0, with the code imported or not; a wrong key an error."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "team.py").write_text("def f(**_):\n    return None\n")
    (tmp_path / "jobs.toml").write_text(
        '[[jobs]]\nid = "a"\nschedule = "0 6 * * 0-4"\nsteps = [{ callable = "team:f" }]\n'
    )
    pool = '[pools.w]\nurl = "sqlite:///w.db"\npassword = "${NOT_SET_ANYWHERE}"\n'
    (tmp_path / "connectors.toml").write_text(pool)
    for flags in ((), ("--no-import",)):
        done = run_command("check", *flags, folder=tmp_path)
        assert (done.code, "1 job in order" in done.out) == (0, True), done.out
        assert "on this machine, the environment variable 'NOT_SET_ANYWHERE' is not set" in " ".join(done.out.split())
    (tmp_path / "connectors.toml").write_text(pool + "pool_sise = 3\n")
    done = run_command("check", "--no-import", "--from-original", folder=tmp_path)
    assert (done.code, "1 error; 1 job in order" in done.out) == (1, True), done.out
    for told in (
        'schedule = "0 6 * * mon-fri"',
        "they are in UTC",
        "step_defaults = { timeout_seconds = ",
        "retention",
    ):
        assert told in done.out, told
