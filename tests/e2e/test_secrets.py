"""Secrets of a project's files reach the steps that need them, and nothing that is written down."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from secret_traces import traces_of
from team_system import TeamSystem, reason_of

from cli_command import run_command
from nomaflow_project.reading.encryption import new_key, ring_of
from real_system import eventually

pytestmark = pytest.mark.e2e

IN_FILE, ENCRYPTED, OF_CONNECTOR, UNUSED = "file-s3cret/+1", "enc-s3cret/+2", "conn-s3cret/+3", "other-s3cret/+4"

CODE = """
import base64, hashlib, os, sys
from pathlib import Path

def told(*, values, ctx, **_):
    print("printed", *values)
    print("base64", base64.b64encode("".join(values).encode()).decode(), file=sys.stderr)
    os.write(1, ("written " + values[0] + chr(10)).encode())
    ctx.progress(1, 2, f"at {values[0]}")
    digests = [hashlib.sha256(each.encode()).hexdigest() for each in values]
    return {"digests": digests, "values": values, "params": dict(ctx.params)}

def fails(*, values, **_):
    raise RuntimeError("cannot log in with " + values[0])

def connects(*, connectors, **_):
    table = connectors.connector("own").table
    print("token", table["token"])
    return {"digest": hashlib.sha256(table["token"].encode()).hexdigest(), "token": table["token"]}

def looks(*, needles, **_):
    "Search what a step can see without being given it: its own environment and that of its ancestors."
    seen = []
    pid = os.getpid()
    while pid > 1:
        for name in ("environ", "cmdline"):
            try:
                body = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue
            seen += [f"{name} {pid}" for needle in needles if needle.encode()[::-1] in body]
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return {"seen": seen}
"""
PLUGIN = """
from types import SimpleNamespace
from nomaflow import hookimpl

@hookimpl
def nomaflow_contribute_connectors():
    return {"own": lambda name, table, registry: SimpleNamespace(table=table)}
"""
CONNECTORS = """
[connectors.own]
type = "own"
token = "%s"
"""
JOBS = """
[[jobs]]
id = "told"
overlap = "allow"
params = { p = "${file:secrets/pw}" }
steps = [{ callable = "team:told", op_kwargs = { values = ["${file:secrets/pw}", "%(encrypted)s", "file:///x"] } }]

[[jobs]]
id = "fails"
overlap = "allow"
steps = [{ callable = "team:fails", op_kwargs = { values = ["${file:secrets/pw}"] } }]

[[jobs]]
id = "connects"
steps = [{ callable = "team:connects" }]

[[jobs]]
id = "looks"
steps = [{ callable = "team:looks" }]

[[jobs]]
id = "unknown"
steps = [{ callable = "team:told", op_kwargs = { values = ["${nobody:path#field}"] } }]
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamSystem]:
    """A kernel and a host whose project has secrets in a file, and encrypted; the key is outside the project."""
    root = tmp_path_factory.mktemp("secrets")
    made = TeamSystem(root=root)
    made.start_kernel()
    key = root / "keys"
    key.touch(mode=0o600)
    key.write_text(new_key())
    ring = ring_of(key.read_text(), "")
    project = made.project(
        "team",
        {
            "jobs.toml": JOBS % {"encrypted": ring.encrypt(ENCRYPTED)},
            "plugins/team.py": CODE,
            "plugins/own.py": PLUGIN,
            "connectors.toml": CONNECTORS % ring.encrypt(OF_CONNECTOR),
        },
    )
    (root / "outside").mkdir()
    (root / "outside" / "pw").write_text(IN_FILE + "\n")
    (root / "outside" / "pw").chmod(0o600)
    (project / "secrets").symlink_to(root / "outside")
    made.start_host("team", settings=[f'secret_key_file = "{key}"'])
    yield made
    made.close()


def _traces(system: TeamSystem, secret: str) -> list[str]:
    """Return where a secret is found, except for the file that it is from."""
    folders = [system.root / name for name in ("kernel", "team")]
    logs = [str(log) for log in system.root.glob("*.log") if secret.encode() in log.read_bytes()]
    pids = [part.pid for part in system.parts.values()]
    found = traces_of(secret, folders, pids)
    return [each for each in [*found, *logs] if not each.endswith("secrets/pw")]


def test_a_step_gets_its_secrets_and_nothing_keeps_them(system: TeamSystem) -> None:
    """Its result, log, progress and error hold ``***``; no file and no process shows the secret."""
    from hashlib import sha256

    done = system.end(system.start("told", None))
    last = done.steps[0].last
    assert last.state == "SUCCEEDED", last.error
    digests = [sha256(each.encode()).hexdigest() for each in (IN_FILE, ENCRYPTED, "file:///x")]
    assert last.extras["digests"] == digests
    assert last.extras["values"] == ["***", "***", "file:///x"]
    assert last.extras["params"] == {"p": "***"}
    log = system.run_log(done.run_id)
    assert "printed *** *** file:///x" in log
    assert "written ***" in log
    failed = system.end(system.start("fails", None)).steps[0].last
    assert failed.error.endswith("cannot log in with ***")
    connected = system.end(system.start("connects", None)).steps[0].last
    assert connected.extras == {"digest": sha256(OF_CONNECTOR.encode()).hexdigest(), "token": "***"}
    for secret in (IN_FILE, ENCRYPTED, OF_CONNECTOR):
        assert _traces(system, secret) == []


def test_a_step_without_them_finds_none(system: TeamSystem) -> None:
    """A secret of another job is in no environment: not the step's, not that of the host's processes."""
    needles = [each[::-1] for each in (IN_FILE, ENCRYPTED, OF_CONNECTOR)]
    last = system.end(system.start("looks", None, needles=needles)).steps[0].last
    assert (last.state, last.extras["seen"]) == ("SUCCEEDED", [])


def test_a_secret_that_cannot_be_read_fails_the_attempt_by_name(system: TeamSystem) -> None:
    """The place, the file and the way out are told; a rotated file counts at the next attempt without a reload."""
    file = system.root / "outside" / "pw"
    file.chmod(0o644)
    last = system.end(system.start("fails", None)).steps[0].last
    assert (last.state, reason_of(last)) == ("FAILED", "secret_unreadable")
    assert "op_kwargs.values[0]: the secret file 'secrets/pw' cannot be read: others may read" in last.error
    file.chmod(0o600)
    file.write_text(UNUSED)
    last = system.end(system.start("fails", None)).steps[0].last
    assert last.error.endswith("cannot log in with ***")
    file.write_text(IN_FILE + "\n")
    assert _traces(system, UNUSED) == []


def test_a_reference_that_no_plugin_resolves_says_so(system: TeamSystem) -> None:
    """The attempt fails with the scheme and the way to a literal text."""
    last = system.end(system.start("unknown", None)).steps[0].last
    assert (last.state, reason_of(last)) == ("FAILED", "secret_unreadable")
    assert "no plugin resolves 'nobody'" in last.error
    assert "those of the plugins folder are not asked" in last.error
    assert "write $${nobody:…} for a literal text" in last.error


def test_check_list_and_rotate_by_hand(system: TeamSystem) -> None:
    """A newer key, rotation, the old key removed: the host goes on, and the commands show no value."""
    project, key = system.root / "team", system.root / "keys"
    old = key.read_text()
    for arguments, code in {("keygen", str(key)): 0, ("rotate",): 0, ("list",): 0, ("show-key-id",): 0}.items():
        done = run_command("secret", *arguments, folder=project)
        assert done.code == code, done
        assert all(secret not in done.out + done.err for secret in (IN_FILE, ENCRYPTED, OF_CONNECTOR))
    assert old.strip() in key.read_text()
    key.write_text(key.read_text().splitlines()[0])
    listed = json.loads(run_command("secret", "list", "-o", "json", folder=project).out)["secrets"]
    assert {each["state"] for each in listed if each["source"] == "encrypted"} == {"ok"}
    assert run_command("check", folder=project).code == 0
    system.cli("reload", "team")
    eventually(lambda: system.instance("team"))
    assert system.end(system.start("told", None)).steps[0].last.state == "SUCCEEDED"
    encrypted = run_command("secret", "set", folder=project, stdin="new value\n").out.strip()
    assert ring_of(key.read_text(), "").decrypt(encrypted) == "new value"
