"""The named queries of a connector: their text for its pool, and the queries that may not run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nomaflow_project.models.connectors_file import PoolEntry, Statement

_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)
_NO_CODE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_PLACEHOLDER = re.compile(r"#(SCHEMA|DBLINK)(?:\.([A-Za-z0-9_]+))?#", re.IGNORECASE)
_FORMS = {"SCHEMA": re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)?"), "DBLINK": re.compile(r"@[A-Za-z0-9_$#.]+")}


def query_values(queries: Iterable[tuple[str, Statement]], pool: PoolEntry | None) -> dict[str, Any]:
    """Return ``queries``, ``refused`` and ``defaults`` of a connector, by the names of its queries.

    :param pool: the pool they run on; None if it cannot be used, so that no query runs
    """
    texts: dict[str, str] = {}
    refused: dict[str, str] = {}
    defaults: dict[str, Mapping[str, str | None]] = {}
    for name, query in queries:
        sql = query.text(_dialect(pool))
        texts[name] = sql
        written = written_by(sql)
        if written and not query.writable:
            refused[name] = f"it is {written} and has no writable = true"
        elif pool is not None:
            texts[name], problem = _placed(sql, pool)
            if problem:
                refused[name] = problem
        if query.params:
            defaults[name] = {param.name: param.default for param in query.params}
    return {"queries": texts, "refused": refused, "defaults": defaults}


def written_by(text: str) -> str:
    """Return a description of a statement that may write, such as ``an UPDATE``; empty for one that only reads."""
    code = _NO_CODE.sub(" ", text).strip(" \t\r\n(;")
    first = re.match(r"\w+", code)
    if first is None or first[0].upper() in ("SELECT", "VALUES"):
        return ""
    found = _WRITES.search(code) if first[0].upper() == "WITH" else first
    if found is None:
        return ""
    word = found[0].upper()
    return f"an {word}" if word[0] in "AEIOU" else f"a {word}"


def _dialect(pool: PoolEntry | None) -> str:
    if pool is None:
        return "default"
    backend = pool.url.partition(":")[0].partition("+")[0]
    return pool.dialect or ("postgresql" if backend == "postgres" else backend)


def _placed(text: str, pool: PoolEntry) -> tuple[str, str]:
    """Return a text with its ``#SCHEMA.NAME#`` and ``#DBLINK.NAME#`` replaced, and the problem that prevents it."""
    if "#" not in text:
        return text, ""
    given = {
        kind: {name.upper(): value.strip() for name, value in table.items()}
        for kind, table in (("SCHEMA", pool.schemas), ("DBLINK", pool.dblinks))
    }
    problems: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        kind, name = match[1].upper(), (match[2] or "").upper()
        value = given[kind].get(name)
        if kind == "DBLINK" and not value:
            return ""  # a pool without links runs the query on its own tables
        if value is None:
            problems.append(f"its pool has no schema for {match[0]} (add it to the pool's 'schemas')")
        elif not _FORMS[kind].fullmatch(value):
            problems.append(f"what its pool gives for {match[0]} is not a plain name")
        return value or ""

    return _PLACEHOLDER.sub(replaced, text), "; ".join(problems[:1])
