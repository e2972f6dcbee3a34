"""connectors.toml: who may see it, its syntax and its keys. No message ever holds a secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from machine_parts import need
from nomaflow_host.connectors import ConnectorsError, ResolvedConnectors, read_connectors

if TYPE_CHECKING:
    from pathlib import Path

Read = Callable[..., ResolvedConnectors]

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
    assert resolved.pools["default"].password == "pa$$ word"
    assert resolved.pools["default"].options() == {
        "pool_size": 5,
        "max_overflow": 2,
        "pool_pre_ping": True,
        "pool_recycle": 300,
        "echo": False,
    }
    assert resolved.root == str(tmp_path)
    assert resolved.secret_env_names == ("CRM_TOKEN", "DB_PASSWORD")
    assert set(resolved.secrets) == {"pa$$ word", "none"}
    assert resolved.modules() == ("sqlalchemy.ext.asyncio", "aiosqlite", "asyncpg")
    assert ResolvedConnectors.from_json(json.loads(json.dumps(resolved.to_json()))) == resolved
    assert "pa$$" not in repr(resolved)


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is an empty one, unless it is required."""
    resolved = read_connectors(tmp_path / "none.toml", {})
    assert (resolved.pools, resolved.connectors, resolved.modules()) == ({}, {}, ())
    with pytest.raises(ConnectorsError, match=r"none\.toml: there is no such file"):
        read_connectors(tmp_path / "none.toml", {}, required=True)


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
    '[connectors.c]\ntype = "api"\nbase_url = "http://me:hunter2@h"',
]


@pytest.mark.parametrize("text", LITERALS)
def test_literal_secret_needs_a_private_file(read: Read, text: str) -> None:
    """A file with a literal credential is refused where others may read it, and read where they may not."""
    for mode in (0o640, 0o604, 0o620, 0o666):
        with pytest.raises(ConnectorsError) as caught:
            read(text, mode=mode)
        assert "chmod 600" in str(caught.value)
        assert "connectors.toml" in str(caught.value)
        assert "hunter2" not in str(caught.value)
    resolved = read(text, mode=0o600)
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
    with pytest.raises(ConnectorsError, match="link to a file of another user"):
        read_connectors(tmp_path / "connectors.toml", {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '[pools.p]\nurl = "sqlite://"\npasword = "hunter2"',
            "pools.p: unknown key 'pasword' (did you mean 'password'?",
        ),
        ('[pool.p]\nurl = "sqlite://"', "unknown key 'pool' (did you mean 'pools'?"),
        ('[pools.p]\npassword = "hunter2"', "pools.p: the key 'url' is missing"),
        ('[pools.p]\nurl = "hunter2"', "pools.p.url: expected an SQLAlchemy URL"),
        ("[pools.p]\nurl = 5", "pools.p.url: expected str, got int"),
        ('[pools.p]\nurl = "sqlite://"\npool_size = "hunter2"', "pools.p.pool_size: expected int, got str"),
        ('[pools.p]\nurl = "sqlite://"\npool_size = true', "pools.p.pool_size: expected int, got bool"),
        ('[pools.p]\nurl = "sqlite://"\npool_size = -1', "pools.p.pool_size: expected at least 0"),
        ('[pools]\np = "hunter2"', "pools.p: expected a table, got str"),
        ('pools = "hunter2"', "pools: expected a table, got str"),
        ('[pools."a b"]\nurl = "sqlite://"', "pools.a b: expected a name"),
        ('[pools.p]\nurl = "${NOWHERE}"', "pools.p.url: the environment variable 'NOWHERE' is not set"),
        ('[pools.p]\npassword = "hunter2', "line 2, at its end: unterminated string"),
        ("[pools.p]\npassword = hunter2", "line 2, column"),
        ('[pools.p]\nurl = "a"\nurl = "hunter2"', "line 3, at its end: cannot overwrite a value"),
        ('[connectors.c]\npool = "p"', "connectors.c: the key 'type' is missing"),
        ('[connectors.c]\ntype = "sql"\npool = "p"', "connectors.c.pool: there is no pool 'p' (known: none)"),
        (
            '[pools.main]\nurl="sqlite://"\n[connectors.c]\ntype = "sql"\npool = "mian"',
            "did you mean 'main'? known: 'main'",
        ),
        ('[pools.p]\nurl="sqlite://"\n[connectors.c]\ntype="sql"\npool="p"\nqueries={a=1}', "queries.a: expected str"),
        ('[connectors.c]\ntype = "api"', "connectors.c: the key 'base_url' is missing"),
        ('[connectors.c]\ntype = "api"\nbase_url = "ftp://h"', "connectors.c.base_url: expected an http://"),
        ('[connectors.c]\ntype = "api"\nbase_url = "http://h"\nauth = { type = "beerer" }', "did you mean 'bearer'?"),
        (
            '[connectors.c]\ntype = "api"\nbase_url = "http://h"\nauth = { type = "bearer" }',
            "auth: the key 'token' is missing",
        ),
        (
            '[connectors.c]\ntype = "api"\nbase_url = "http://h"\nauth = { type = [] }',
            "auth.type: expected str, got a list",
        ),
        ('[connectors.c]\ntype = "api"\nbase_url = "http://h"\nretries = -1', "retries: expected no negative number"),
        (
            '[connectors.c.endpoints.e]\nmethod="GET"\n[connectors.c]\ntype="api"\nbase_url="http://h"',
            "key 'path' is missing",
        ),
        ("a = " + "[" * 5000, "connectors.toml: "),
    ],
)
def test_bad_files(read: Read, text: str, words: str) -> None:
    """Each mistake names file, place, what was expected and the near match, never a value that may be secret."""
    with pytest.raises(ConnectorsError) as caught:
        read(text)
    assert words in str(caught.value)
    assert "connectors.toml" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_hostile_files(tmp_path: Path) -> None:
    """A file too large, a directory, a pipe and bytes that are no text are refused at once."""
    big, folder, pipe, binary = (tmp_path / name for name in ("big", "folder", "pipe", "binary"))
    big.write_text("# " + "x" * (1024 * 1024))
    folder.mkdir()
    os.mkfifo(pipe)
    binary.write_bytes(b"a = 1\nb = '\xff'")
    for file, words in (
        (big, "larger than"),
        (folder, "not a regular"),
        (pipe, "not a regular"),
        (binary, "line 2 is not UTF-8"),
    ):
        with pytest.raises(ConnectorsError, match=words):
            read_connectors(file, {})


def test_numbers_from_the_environment(read: Read) -> None:
    """Numbers and switches may come from the environment, as text."""
    text = '[pools.p]\nurl = "sqlite://"\npool_size = "${SIZE:-7}"\necho = "${ECHO:-off}"'
    assert read(text).pools["p"].options() == {"pool_size": 7, "echo": False}


def test_types_of_plugins_are_a_warning(read: Read) -> None:
    """A type that is not built in is kept for a plugin, and mentioned."""
    resolved = read('[connectors.c]\ntype = "ftp"\nhost = "h"')
    assert resolved.connectors["c"]["host"] == "h"
    assert "'ftp' is not built in" in resolved.warnings[0]


def test_reading_is_light(tmp_path: Path) -> None:
    """A main process that reads connectors.toml, and a worker without pools, load neither SQLAlchemy nor httpx."""
    code = (
        "import sys\nfrom nomaflow_host.connectors import *\n"
        f"r = read_connectors({str(tmp_path / 'none')!r}, {{}})\nHostConnectorRegistry(r)\n"
        "print(sorted({'sqlalchemy', 'httpx', 'pydantic', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
