"""Connectors of type ``sql``: named queries on a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nomaflow.connectors import ConnectorPools, SqlConnector
from nomaflow_host.connectors.errors import ConnectorUnknown, ConnectorUnusable


class HostSqlConnector(SqlConnector):
    """Named queries of connectors.toml. Each call is its own transaction."""

    def __init__(self, name: str, table: Mapping[str, Any], *, pools: ConnectorPools) -> None:
        """Take the connector's values from connectors.toml, and the pools that have the engine."""
        self._name = name
        self._table = table
        self._pools = pools

    def __repr__(self) -> str:
        return f"HostSqlConnector({self._name!r}, pool={self._table['pool']!r})"

    @property
    def name(self) -> str:
        """The connector's name."""
        return self._name

    def statement(self, query: str) -> str:
        """Return the SQL text of the query named *query*."""
        queries, refused = self._table["queries"], self._table["refused"]
        if query not in queries:
            raise ConnectorUnknown(f"query of connector {self._name!r} named", query, queries)
        if query in refused:
            raise ConnectorUnusable(f"query of connector {self._name!r} named", query, refused[query])
        return str(queries[query])

    async def fetch_all(
        self, query: str, params: Mapping[str, Any] | None = None, /, **more: Any
    ) -> list[dict[str, Any]]:
        """Run the query named *query* and return its rows."""
        return [self._row(row) for row in (await self._run(query, {**(params or {}), **more}))[0]]

    async def fetch_one(
        self, query: str, params: Mapping[str, Any] | None = None, /, **more: Any
    ) -> dict[str, Any] | None:
        """Run the query named *query* and return its first row."""
        rows, _ = await self._run(query, {**(params or {}), **more})
        return self._row(rows[0]) if rows else None

    async def fetch_value(self, query: str, params: Mapping[str, Any] | None = None, /, **more: Any) -> Any:
        """Run the query named *query* and return the first value of its first row."""
        row = await self.fetch_one(query, params, **more)
        return next(iter(row.values()), None) if row else None

    async def execute(
        self, query: str, params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None, /, **more: Any
    ) -> int:
        """Run the statement named *query*, commit, and return the number of affected rows."""
        if params is None or isinstance(params, Mapping):
            return (await self._run(query, {**(params or {}), **more}))[1]
        return (await self._run(query, [{**each, **more} for each in params]))[1]

    async def _run(self, query: str, params: Any) -> tuple[Sequence[Mapping[str, Any]], int]:
        from sqlalchemy import text  # only a worker that uses a pool pays for it

        statement = text(self.statement(query))
        if isinstance(params, list) and not params:
            return [], 0
        if defaults := self._table["defaults"].get(query):
            params = [{**defaults, **each} for each in params] if isinstance(params, list) else {**defaults, **params}
        async with self._pools.engine(self._table["pool"]).begin() as connection:
            result = await connection.execute(statement, params)
            rows: Sequence[Any] = result.mappings().all() if result.returns_rows else []
            return rows, max(result.rowcount, 0)

    def _row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        if not self._table["trim_strings"]:
            return dict(row)
        return {key: value.rstrip() if isinstance(value, str) else value for key, value in row.items()}
