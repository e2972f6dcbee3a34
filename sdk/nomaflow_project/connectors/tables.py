"""Conversion of a connector's table, in our form or the original's, to the values that a host uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nomaflow_project.connectors.queries import query_values, written_by
from nomaflow_project.models.connectors_file import ApiConnectorEntry, SqlConnectorEntry
from nomaflow_project.reading.validation import validate

if TYPE_CHECKING:
    from nomaflow_project.models.connectors_file import PoolEntry
    from nomaflow_project.models.original_connectors import OriginalSql
    from nomaflow_project.reading.problems import Place, Problem

IGNORED_KEYS = frozenset({"arraysize", "debug_sql", "max_rows", "pools"})
"""Keys of pools and connectors that are read and have no effect."""

INTERFACE_KEYS = frozenset({"home", "licensed", "show_in_switcher"})
"""Keys of a connector that control its display in the original's web pages."""

_LISTS = ("queries", "tables", "sequences", "lookups", "endpoints")


def sql_values(
    table: Mapping[str, Any], at: Place, pools: Mapping[str, PoolEntry]
) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Return the values of a connector of type ``sql`` and the problems of its table.

    :param pools: the usable pools
    """
    model: type[SqlConnectorEntry | OriginalSql] = SqlConnectorEntry
    if _is_original(table):
        from nomaflow_project.models.original_connectors import OriginalSql  # few files need it

        model = OriginalSql
    entry, problems = validate(model, table, at, hide_values=True)
    if entry is None:
        return None, problems
    queries = list(entry.named())
    problems += _twice([name for name, _ in queries], at)
    pool = pools.get(entry.pool)
    writing = next((name for name, query in queries if query.writable and written_by(query.text("default"))), "")
    if pool is not None and pool.coalesce_nulls and writing:
        problem = f"its pool {entry.pool!r} has coalesce_nulls, which is not supported, and {writing!r} writes"
        problems.append((at / "pool").error("not_supported", problem, fix="write through connectors.pools.engine"))
    values = query_values(queries, pool)
    for name, reason in values["refused"].items():
        problems.append(at.warning("unusable_query", f"the query {name!r} cannot run: {reason}"))
    trim = pool is not None and pool.trim_strings
    return {"type": "sql", "pool": entry.pool, "trim_strings": trim, **values}, problems


def api_values(table: Mapping[str, Any], at: Place) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Return the values of a connector of type ``api`` and the problems of its table."""
    if _is_original(table):
        from nomaflow_project.models.original_connectors import OriginalApi, api_table  # few files need them

        original, problems = validate(OriginalApi, table, at, hide_values=True)
        if original is None:
            return None, problems
        return api_table(original), [*problems, *_twice([each.name for each in original.endpoints], at)]
    entry, problems = validate(ApiConnectorEntry, table, at, hide_values=True)
    return (None if entry is None else entry.to_json()), problems


def _is_original(table: Mapping[str, Any]) -> bool:
    """Return True if the table of a connector is in the original's form."""
    return "auth_type" in table or any(isinstance(table.get(name), list) for name in _LISTS)


def _twice(names: list[str], at: Place) -> list[Problem]:
    """Return an error for the first name shared by two queries or endpoints."""
    for index, name in enumerate(names):
        if name in names[:index]:
            return [
                at.error("duplicate_name", f"two of its queries or endpoints are called {name!r}", fix="rename one")
            ]
    return []
