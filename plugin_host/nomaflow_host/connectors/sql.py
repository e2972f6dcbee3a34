"""Connectors of type ``sql``: named queries on a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nomaflow.connectors import ConnectorPools, SqlConnector
from nomaflow_host.connectors.errors import ConnectorUnknown

__all__ = ["HostSqlConnector"]


class HostSqlConnector(SqlConnector):
    """Named queries of connectors.toml, each call a transaction of its own."""

    def __init__(self, name: str, *, pool: str, queries: Mapping[str, str], pools: ConnectorPools) -> None:
        """Take the queries, and the pools that have the engine."""
        self._name = name
        self._pool = pool
        self._queries = queries
        self._pools = pools

    def __repr__(self) -> str:
        return f"HostSqlConnector({self._name!r}, pool={self._pool!r})"

    @property
    def name(self) -> str:
        """The connector's name."""
        return self._name

    def statement(self, query: str) -> str:
        """Return the SQL text of the query named *query*."""
        text = self._queries.get(query)
        if text is None:
            raise ConnectorUnknown(f"query of connector {self._name!r} named", query, self._queries)
        return text

    async def fetch_all(
        self, query: str, params: Mapping[str, Any] | None = None, /, **more: Any
    ) -> list[dict[str, Any]]:
        """Run the query named *query* and return its rows."""
        return [dict(row) for row in (await self._run(query, {**(params or {}), **more}))[0]]

    async def fetch_one(
        self, query: str, params: Mapping[str, Any] | None = None, /, **more: Any
    ) -> dict[str, Any] | None:
        """Run the query named *query* and return its first row."""
        rows, _ = await self._run(query, {**(params or {}), **more})
        return dict(rows[0]) if rows else None

    async def fetch_value(self, query: str, params: Mapping[str, Any] | None = None, /, **more: Any) -> Any:
        """Run the query named *query* and return the first value of its first row."""
        row = await self.fetch_one(query, params, **more)
        return next(iter(row.values()), None) if row else None

    async def execute(
        self, query: str, params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None, /, **more: Any
    ) -> int:
        """Run the statement named *query*, commit, and return how many rows it affected."""
        if params is None or isinstance(params, Mapping):
            return (await self._run(query, {**(params or {}), **more}))[1]
        return (await self._run(query, [{**each, **more} for each in params]))[1]

    async def _run(self, query: str, params: Any) -> tuple[Sequence[Mapping[str, Any]], int]:
        from sqlalchemy import text  # only a worker that uses a pool pays for it

        statement = text(self.statement(query))
        if isinstance(params, list) and not params:
            return [], 0
        async with self._pools.engine(self._pool).begin() as connection:
            result = await connection.execute(statement, params)
            rows: Sequence[Any] = result.mappings().all() if result.returns_rows else []
            return rows, max(result.rowcount, 0)
