"""Connectors in the original's form become ours, or say why they cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nomaflow_project.connectors.connector_set import ConnectorSet
from nomaflow_project.connectors.queries import written_by
from nomaflow_project.connectors.reading import read_connectors

POOL = (
    '[pools.default]\nurl = "postgresql://u@h/d"\nschemas = { SY = "SY920", BAD = "a;b" }\ndblinks = { L = "@PROD" }\n'
)


def _read(folder: Path, text: str) -> ConnectorSet:
    file = folder / "connectors.toml"
    file.write_text(text)
    file.chmod(0o600)
    return read_connectors(file, {"TOKEN": "t0ken"}, name="connectors.toml")


def _sql(folder: Path, rest: str, pool: str = POOL) -> dict[str, Any]:
    found = _read(folder, f'{pool}[connectors.x]\ntype = "sql"\n{rest}')
    assert not found.unusable
    return dict(found.connectors["x"])


def test_queries(tmp_path: Path) -> None:
    """Variants by dialect, tables, sequences and lookups, schemas, links and defaults; the pool is 'default'."""
    values = _sql(
        tmp_path,
        """
        tables = [{ name = "t", get = { sql = "SELECT 1" }, delete = { sql = "DELETE FROM t" } }]
        sequences = [{ name = "next", sql = "SELECT nextval('s')" }]
        lookups = [{ name = "look", sql = "SELECT 1 FROM #schema.sy#.t#DBLINK.L##DBLINK.NO#" }]
        [[connectors.x.queries]]
        name = "q"
        type = "custom"
        sql = { default = "SELECT 0", postgresql = "SELECT 1", oracle = "SELECT 2" }
        params = [{ name = "a", label = "A" }, { name = "b", default = "5" }]
        """,
    )
    assert values["pool"] == "default"
    assert values["queries"] == {
        "t_get": "SELECT 1",
        "t_delete": "DELETE FROM t",
        "q": "SELECT 1",
        "next": "SELECT nextval('s')",
        "look": "SELECT 1 FROM SY920.t@PROD",
    }
    assert values["defaults"] == {"q": {"a": None, "b": "5"}}
    assert values["refused"] == {}


def test_queries_that_cannot_run(tmp_path: Path) -> None:
    """Each alone, with the reason."""
    values = _sql(
        tmp_path,
        """
        [[connectors.x.queries]]
        name = "writes"
        sql = "-- SELECT\\nUPDATE t SET a = 1"
        [[connectors.x.queries]]
        name = "may"
        writable = true
        sql = "UPDATE t SET a = 1"
        [[connectors.x.queries]]
        name = "nowhere"
        sql = "SELECT 1 FROM #SCHEMA.NO#.t"
        [[connectors.x.queries]]
        name = "evil"
        sql = "SELECT 1 FROM #SCHEMA.BAD#.t"
        """,
    )
    assert set(values["refused"]) == {"writes", "nowhere", "evil"}
    assert "an UPDATE" in values["refused"]["writes"]
    assert "'schemas'" in values["refused"]["nowhere"]


@pytest.mark.parametrize(
    ("sql", "written"),
    [
        ("  ( SELECT 1 )", ""),
        ("/* DELETE */ select 'UPDATE'", ""),
        ("WITH a AS (SELECT 1) SELECT * FROM a", ""),
        ("WITH a AS (DELETE FROM t RETURNING 1) SELECT * FROM a", "a DELETE"),
        ('WITH a AS (SELECT "DELETE" FROM t) SELECT * FROM a', ""),
        ("insert into t values (1)", "an INSERT"),
        ("MERGE INTO t USING u ON (1=1)", "a MERGE"),
        ("TRUNCATE t", "a TRUNCATE"),
        ("", ""),
    ],
)
def test_statements_that_write(sql: str, written: str) -> None:
    """Comments and texts do not count; a list of WITH does."""
    assert written_by(sql) == written


@pytest.mark.parametrize(
    ("rest", "path", "words"),
    [
        ('[[connectors.x.queries]]\nsql = "SELECT 1"', "queries[0].name", "is required"),
        ('[[connectors.x.queries]]\nname = "q"\nsql = { oracle = "SELECT 1" }', "queries[0].sql", "'default'"),
        ("queries = []\nshow_in_swicher = true", "show_in_swicher", "unknown key"),
        ('queries = []\npool = "nope"', "pool", "no pool 'nope'"),
        (
            '[[connectors.x.queries]]\nname="a"\nsql="SELECT 1"\n[[connectors.x.queries]]\nname="a"\nsql="SELECT 1"',
            "",
            "are called 'a'",
        ),
    ],
)
def test_mistakes_are_at_their_place_in_the_file(tmp_path: Path, rest: str, path: str, words: str) -> None:
    """The paths are those of the original's keys, and the pool still works."""
    found = _read(tmp_path, f'{POOL}[connectors.x]\ntype = "sql"\n{rest}\n')
    assert set(found.pools) == {"default"}
    ((place, reason),) = found.unusable.items()
    assert place == "connectors.x"
    assert f"connectors.x{'.' if path else ''}{path}: " in reason
    assert words in reason


def test_a_pool_that_fills_empty_values_takes_no_writes(tmp_path: Path) -> None:
    """The connector that writes on it is disabled; one that reads is not."""
    pool = '[pools.default]\nurl = "postgresql://u@h/d"\ncoalesce_nulls = true\n'
    query = '[[connectors.{0}.queries]]\nname = "q"\nwritable = true\nsql = "{1}"\n'
    text = pool
    for name, sql in (("reads", "SELECT 1"), ("writes", "DELETE FROM t")):
        text += f'[connectors.{name}]\ntype = "sql"\n' + query.format(name, sql)
    found = _read(tmp_path, text)
    assert set(found.connectors) == {"reads"}
    assert "coalesce_nulls" in found.unusable["connectors.writes"]


def test_no_message_shows_a_value_of_an_api(tmp_path: Path) -> None:
    """Any of them may be a credential."""
    found = _read(tmp_path, '[connectors.x]\ntype = "api"\nauth_type = "none"\ntimeout = -31337\n')
    ((_, reason),) = found.unusable.items()
    assert "x.timeout: " in reason
    assert "31337" not in reason


@pytest.mark.parametrize(
    ("keys", "auth"),
    [
        ('auth_type = "none"', {"type": "none"}),
        (
            'auth_type = "basic"\nauth_username = "u"\nauth_password = "${TOKEN}"',
            {"type": "basic", "username": "u", "password": "t0ken"},
        ),
        ('auth_type = "bearer"\nauth_token = "${TOKEN}"', {"type": "bearer", "token": "t0ken"}),
        (
            'auth_type = "api_key"\nauth_token = "${TOKEN}"',
            {"type": "api_key", "name": "X-Api-Key", "value": "t0ken", "in": "header"},
        ),
    ],
)
def test_authentication(tmp_path: Path, keys: str, auth: dict[str, str]) -> None:
    """Each kind becomes ours."""
    found = _read(
        tmp_path, f'[connectors.a]\ntype = "api"\nbase_url = "http://h"\n{keys}\nverify_ssl = false\ntimeout = 5'
    )
    values = found.connectors["a"]
    assert values["auth"] == auth
    assert (values["verify"], values["timeout_seconds"]) == (False, 5)


def test_what_shows_in_the_original_only_is_one_warning(tmp_path: Path) -> None:
    """One warning lists every such key of the file, in either form."""
    found = _read(
        tmp_path,
        '[pools.p]\nurl = "sqlite://"\nmax_rows = 1\ndebug_sql = true\n'
        '[connectors.a]\ntype = "sql"\npool = "p"\nhome = "x"\nqueries = { q = "SELECT 1" }\n'
        '[connectors.b]\ntype = "sql"\npool = "p"\nlicensed = true\npools = ["p"]\nqueries = []\n',
    )
    assert set(found.connectors) == {"a", "b"}
    (problem,) = found.problems
    assert problem.code == "unused_key"
    assert not problem.is_error
    for name in ("pools.p.max_rows", "pools.p.debug_sql", "connectors.a.home", "connectors.b.licensed", "b.pools"):
        assert name in problem.message
