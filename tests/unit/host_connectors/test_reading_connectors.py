"""connectors.toml: who may see it, its syntax and its keys. No message ever holds a secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from machine_parts import need
from nomaflow_host.connectors.errors import ConnectorsError
from nomaflow_host.connectors.pools import modules_of
from nomaflow_host.connectors.registry import HostConnectorRegistry
from nomaflow_project.connectors.connector_set import ConnectorSet
from nomaflow_project.connectors.reading import read_connectors

if TYPE_CHECKING:
    from pathlib import Path

Read = Callable[..., ConnectorSet]

FULL = """
[pools.default]
url = "postgresql://app@db/main"
password = "${DB_PASSWORD}"
pool_size = 5
max_overflow = 2
pool_pre_ping = true
pool_recycle = 300
echo = false
[pools.lite]
url = "sqlite:///data/lite.db"
[connectors.billing]
type = "sql"
pool = "lite"
queries = { overdue = "SELECT 1 WHERE :days > 0" }
[connectors.crm]
type = "api"
base_url = "https://crm.example/v1"
headers = { "X-Team" = "ops" }
auth = { type = "bearer", token = "${CRM_TOKEN:-none}" }
timeout_seconds = 5
retries = 1
[connectors.crm.endpoints.invoices]
path = "/invoices/{number}"
"""


def test_everything(read: Read, tmp_path: Path) -> None:
    """All keys are read and resolved, survive JSON, and name their variables and secrets."""
    resolved = read(FULL, {"DB_PASSWORD": "pa$$ word"}, mode=0o644)
    assert (
        resolved.pools["default"].items()
        >= {
            "password": "pa$$ word",
            "pool_size": 5,
            "max_overflow": 2,
            "pool_pre_ping": True,
            "pool_recycle": 300,
            "echo": False,
        }.items()
    )
    assert resolved.root == str(tmp_path)
    assert resolved.variables == {"CRM_TOKEN", "CRM_TOKEN_FILE", "DB_PASSWORD", "DB_PASSWORD_FILE"}
    assert set(resolved.secrets) == {"pa$$ word", "none"}
    assert modules_of(resolved.pools.values()) == ("sqlalchemy.ext.asyncio", "aiosqlite", "asyncpg")
    assert (resolved.unusable, resolved.problems) == ({}, ())
    known_to_workers = replace(resolved, file="", variables=frozenset())
    assert ConnectorSet.from_json(json.loads(json.dumps(resolved.to_json()))) == known_to_workers
    assert "pa$$" not in repr(resolved)


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is an empty one, unless it is required."""
    resolved = read_connectors(tmp_path / "none.toml", {})
    assert (resolved.pools, resolved.connectors, resolved.unusable, modules_of(resolved.pools.values())) == (
        {},
        {},
        {},
        (),
    )
    resolved = read_connectors(tmp_path / "none.toml", {}, required=True)
    assert "none.toml: there is no such file" in resolved.unusable[""]


LITERALS = [
    '[pools.p]\nurl = "sqlite://"\npassword = "hunter2"',
    '[pools.p]\nurl = "postgresql://me:hunter2@h/d"',
    '[pools.p]\nurl = "postgresql://h/d?user=a&password=hunter2"',
    '[connectors.c]\ntype = "api"\nbase_url = "http://h"\nauth = { type = "bearer", token = "hunter2" }',
    '[connectors.c]\ntype = "api"\nbase_url = "http://h"\nauth = { type = "api_key", name = "k", value = "hunter2" }',
    (
        '[connectors.c]\ntype = "api"\nbase_url = "http://h"\n[connectors.c.auth]\ntype = "oauth2"\n'
        'token_url = "http://t"\nclient_id = "i"\nclient_secret = "x${A:-y}hunter2"'
    ),
    '[connectors.c]\ntype = "api"\nbase_url = "http://h"\nheaders = { Authorization = "Bearer hunter2" }',
    '[connectors.c]\ntype = "api"\nbase_url = "http://h"\nheaders = { PRIVATE-TOKEN = "hunter2" }',
    '[connectors.c]\ntype = "api"\nbase_url = "http://me:hunter2@h"',
]


@pytest.mark.parametrize("text", LITERALS)
def test_literal_secret_needs_a_private_file(read: Read, text: str) -> None:
    """An entry with a literal credential is refused if others may read the file, and accepted if not."""
    for mode in (0o640, 0o604, 0o620, 0o666):
        (reason,) = read(text, mode=mode).unusable.values()
        assert "chmod 600" in reason
        assert "connectors.toml" in reason
        assert "hunter2" not in reason
    resolved = read(text, mode=0o600)
    assert not resolved.unusable
    assert any("hunter2" in secret for secret in resolved.secrets)
    assert "hunter2" not in repr(resolved)


def test_referenced_secret_may_be_public(read: Read) -> None:
    """A file that only refers to its credentials may be read by others."""
    text = '[pools.p]\nurl = "postgresql://me:${PW}@h/d"\n[pools.q]\nurl = "${URL}"'
    resolved = read(text, {"PW": "hunter2", "URL": "postgresql://u:swordfish%21@h/d"}, mode=0o644)
    assert set(resolved.secrets) == {"hunter2", "swordfish%21", "swordfish!"}


def test_link_to_a_file_of_another_user(tmp_path: Path) -> None:
    """A symbolic link to somebody else's file is refused."""
    need(root=True)
    (tmp_path / "theirs.toml").write_text("[pools.p]\nurl = 'sqlite://'")
    os.chown(tmp_path / "theirs.toml", 12345, 12345)
    (tmp_path / "connectors.toml").symlink_to(tmp_path / "theirs.toml")
    assert "link to a file of another user" in read_connectors(tmp_path / "connectors.toml", {}).unusable[""]


MISTAKES = [
    (
        '[pools.x]\nurl = "sqlite://"\npasword = "hunter2"',
        "pools.x.pasword: unknown key 'pasword' (did you mean 'password'",
    ),
    ('[pools.x]\npassword = "hunter2"', "pools.x.url: the key 'url' is required and missing"),
    ('[pools.x]\nurl = "hunter2"', "pools.x.url: expected an SQLAlchemy URL"),
    ("[pools.x]\nurl = 5", "pools.x.url: expected a text in quotes"),
    ('[pools.x]\nurl = "sqlite://"\npool_size = "hunter2"', "pools.x.pool_size: expected a whole number, got a text"),
    ('[pools.x]\nurl = "sqlite://"\npool_size = true', "pools.x.pool_size: expected a number"),
    (
        '[pools.x]\nurl = "sqlite://"\npool_size = -1',
        "pools.x.pool_size: the number is too small, expected at least 0",
    ),
    ('[pools]\nx = "hunter2"', "pools.x: expected a table"),
    ('[pools."x y"]\nurl = "sqlite://"', "'x y' is not a name"),
    ('[pools.x]\nurl = "${NOWHERE}"', "pools.x.url: the environment variable 'NOWHERE' is not set"),
    ('[pools.x]\nurl = "sqlite://"\npassword = "ENC:hunter2"', "pools.x.password: it is an encrypted value (ENC:)"),
    ('[pools.x]\nurl = "postgresql://u:ENC:hunter2@h/d"', "pools.x.url: it is an encrypted value (ENC:)"),
    ('[connectors.x]\npool = "p"', "connectors.x.type: the key 'type' is required and missing"),
    ("[connectors.x]\ntype = 5", "connectors.x.type: expected a text in quotes, got a number"),
    ('[connectors.x]\ntype = "sql"\npool = "p"', "connectors.x.pool: there is no pool 'p'"),
    ('[connectors.x]\ntype="sql"\npool="ok"\nqueries={a=1}', "connectors.x.queries.a: expected a text"),
    ('[connectors.x]\ntype = "api"', "connectors.x.base_url: the key 'base_url' is required"),
    ('[connectors.x]\ntype = "api"\nbase_url = "ftp://h"', "connectors.x.base_url: expected an http://"),
    ('[connectors.x]\ntype = "api"\nbase_url = "http://h"\nauth = { type = "beerer" }', "did you mean 'bearer'?"),
    ('[connectors.x]\ntype = "api"\nbase_url = "http://h"\nauth = { type = "bearer" }', "needs the key 'token'"),
    (
        '[connectors.x]\ntype = "api"\nbase_url = "http://h"\nauth = { token = "hunter2" }',
        "auth.type: the key 'type' is required",
    ),
    (
        '[connectors.x]\ntype = "api"\nbase_url = "http://h"\nauth = { type = "bearer", token = "t", username = "u" }',
        "'bearer' has no key 'username'",
    ),
    ('[connectors.x]\ntype = "api"\nbase_url = "http://h"\nauth = { type = [] }', "connectors.x.auth.type: "),
    ('[connectors.x]\ntype = "api"\nbase_url = "http://h"\nretries = -1', "connectors.x.retries: "),
    (
        '[connectors.x.endpoints.e]\nmethod="GET"\n[connectors.x]\ntype="api"\nbase_url="http://h"',
        "connectors.x.endpoints.e.path: the key 'path' is required",
    ),
    ('[connectors.x]\ntype = "ftp"\nhost = "${NOWHERE}"', "connectors.x.host: the environment variable 'NOWHERE'"),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES)
def test_a_mistake_disables_what_it_is_in(read: Read, text: str, words: str) -> None:
    """A mistake is named with file, place, expected form and near match, never a value; the other pool still works."""
    resolved = read(f'[pools.ok]\nurl = "sqlite://"\n{text}')
    assert set(resolved.pools) == {"ok"}
    assert resolved.connectors == {}
    ((place, reason),) = resolved.unusable.items()
    assert place.startswith(("pools.", "connectors."))
    assert reason.startswith("connectors.toml: ") or "/connectors.toml: " in reason
    assert words in reason
    assert "hunter2" not in reason + str(resolved.problems)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[pools.p]\npassword = "hunter2', "unterminated string at the end of the file"),
        ("[pools.p]\npassword = hunter2", "connectors.toml:3: "),
        ('[pools.p]\nurl = "a"\nurl = "hunter2"', "has a value already"),
        ("a = " + "[" * 5000, "connectors.toml:2: it is nested too deeply"),
    ],
)
def test_a_file_that_is_not_toml(read: Read, text: str, words: str) -> None:
    """The whole file is unusable; its variables are still withheld from workers."""
    resolved = read("# ${DB_PASSWORD}\n" + text)
    assert words in resolved.unusable[""]
    assert "hunter2" not in str(resolved.problems) + resolved.unusable[""]
    assert resolved.variables == {"DB_PASSWORD", "DB_PASSWORD_FILE"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[pool.p]\nurl = "sqlite://"', "unknown key 'pool'"),
        ('pools = "hunter2"', "expected a table"),
    ],
)
def test_a_wrong_section_is_an_error(read: Read, text: str, words: str) -> None:
    """Entries below a wrong section are no pools, and manifest and use say why."""
    resolved = read(text)
    (problem,) = resolved.problems
    assert not resolved.pools
    assert all(words in reason for reason in resolved.unusable.values())
    assert ("pools.p" in resolved.unusable) is ("[pool.p]" in text)
    assert words in problem.message
    assert "hunter2" not in str(problem)


def test_hostile_files(tmp_path: Path) -> None:
    """A file too large, a directory, a pipe and bytes that are no text are refused at once."""
    big, folder, pipe, binary = (tmp_path / name for name in ("big", "folder", "pipe", "binary"))
    big.write_text("# " + "x" * (1024 * 1024))
    folder.mkdir()
    os.mkfifo(pipe)
    binary.write_bytes(b"a = 1\nb = '\xff'")
    for file, words in (
        (big, "larger than"),
        (folder, "is a directory"),
        (pipe, "not a regular"),
        (binary, "binary:2: it is not UTF-8"),
    ):
        assert words in read_connectors(file, {}).unusable[""]


def test_numbers_from_the_environment(read: Read) -> None:
    """Numbers and switches may come from the environment, as text."""
    text = '[pools.p]\nurl = "sqlite://"\npool_size = "${SIZE:-7}"\necho = "${ECHO:-off}"'
    pool = read(text).pools["p"]
    assert (pool["pool_size"], pool["echo"]) == (7, False)


def test_types_of_plugins_are_a_warning(read: Read) -> None:
    """A type that is not built in is kept for a plugin, and mentioned."""
    resolved = read('[connectors.c]\ntype = "ftp"\nhost = "h"')
    assert resolved.connectors["c"]["host"] == "h"
    (problem,) = resolved.problems
    assert problem.severity == "warning"
    assert "'ftp' is not built in" in problem.message
    assert problem.fix == "install the plugin that does"


def test_reading_is_light(tmp_path: Path) -> None:
    """A worker without pools loads no library of connectors; a main process only pydantic, as it reads the file."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom nomaflow_host.connectors.registry import HostConnectorRegistry\n"
        "from nomaflow_project.connectors.connector_set import ConnectorSet\nHostConnectorRegistry(ConnectorSet())\n"
        "print(sorted({'sqlalchemy', 'httpx', 'pydantic', 'grpc'} & set(sys.modules)))\n"
        "from nomaflow_project.connectors.reading import read_connectors\n"
        f"HostConnectorRegistry(read_connectors(Path({str(tmp_path / 'none')!r}), {{}}))\n"
        "print(sorted({'sqlalchemy', 'httpx', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


def test_a_missing_driver(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a pool names what to install, which may not be called like the driver's module."""
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    registry = HostConnectorRegistry(read('[pools.p]\nurl = "mysql://app@db/main"'))
    with pytest.raises(ConnectorsError, match=r"its driver 'MySQLdb' is not installed \(pip install 'mysqlclient'\)"):
        registry.pools.sync_engine("p")
