"""Checking connectors.toml as far as that goes without the host: keys, types, the pool that a connector names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from nomaflow_project.models.connectors_file import ApiConnectorEntry, ConnectorsFile, PoolEntry, SqlConnectorEntry
from nomaflow_project.reading.files import JobFile
from nomaflow_project.reading.problems import Place, Problem, did_you_mean, shown
from nomaflow_project.reading.validation import UNSET_VARIABLE, validate

__all__ = ["check_connectors"]

_TYPES: Mapping[str, type[BaseModel]] = {"sql": SqlConnectorEntry, "api": ApiConnectorEntry}


def check_connectors(file: JobFile) -> list[Problem]:
    """Return what is wrong with a connectors.toml. Types that are not built in are the plugins' business."""
    unread = file.problem()
    if unread is not None:
        return [unread]
    tree, place = file.tree or {}, Place(file.path)
    problems = [
        (place / name).error(
            "unknown_key", f"unknown key {name!r}", fix=did_you_mean(name, ConnectorsFile.model_fields)
        )
        for name in tree
        if name not in ConnectorsFile.model_fields
    ]
    pools, found = _tables(tree, "pools", place)
    problems += found
    for name, table in pools.items():
        problems += validate(PoolEntry, table, place / "pools" / name)[1]
    connectors, found = _tables(tree, "connectors", place)
    problems += found
    for name, table in connectors.items():
        problems += _check_connector(table, pools, place / "connectors" / name)
    return [_softened(problem) if problem.code == UNSET_VARIABLE else problem for problem in problems]


def _tables(tree: Mapping[str, Any], name: str, place: Place) -> tuple[Mapping[str, Any], list[Problem]]:
    tables = tree.get(name, {})
    if isinstance(tables, Mapping):
        return tables, []
    return {}, [(place / name).error("wrong_type", f"expected a table, got {shown(tables)}")]


def _check_connector(table: object, pools: Mapping[str, Any], at: Place) -> list[Problem]:
    if not isinstance(table, Mapping):
        return [at.error("wrong_type", f"expected a table, got {shown(table)}")]
    kind = table.get("type")
    if not isinstance(kind, str):
        return [(at / "type").error("missing_key", "a connector needs the key 'type'", fix="give 'sql' or 'api'")]
    if kind not in _TYPES:
        return []
    entry, problems = validate(_TYPES[kind], table, at)
    if isinstance(entry, SqlConnectorEntry) and entry.pool not in pools:
        fix = did_you_mean(entry.pool, pools, noun="pool")
        problems.append((at / "pool").error("unknown_pool", f"there is no pool {entry.pool!r}", fix=fix))
    return problems


def _softened(problem: Problem) -> Problem:
    """Return an unset variable as a warning: credentials are often set where the host runs, and nowhere else."""
    return Place(problem.file, problem.path).warning(problem.code, problem.message + " here", fix=problem.fix)
