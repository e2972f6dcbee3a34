"""``connectors``: the databases and services of ``connectors.toml``, as a callable sees them.

This is the abstract interface with its documentation; a plugin host has the implementation.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["ApiConnector", "ConnectorPools", "ConnectorRegistry", "SqlConnector"]


class ConnectorPools(abc.ABC):
    """The ``[pools.NAME]`` of connectors.toml. Engines are made on first use and disposed of at the worker's end."""

    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """Return the names of all pools, sorted."""

    @abc.abstractmethod
    def engine(self, name: str) -> AsyncEngine:
        """Return the SQLAlchemy async engine of the pool *name*.

        :raises LookupError: if there is no such pool; the message lists the known ones
        """

    @abc.abstractmethod
    def sync_engine(self, name: str) -> Engine:
        """Return the SQLAlchemy engine of the pool *name*, for a callable that is a plain ``def``.

        :raises LookupError: if there is no such pool; the message lists the known ones
        """


class SqlConnector(abc.ABC):
    """A ``[connectors.NAME]`` of type ``sql``: named queries with bound parameters, on one pool.

    Each call is its own transaction. For several statements in one, use the pool's engine.
    """

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The connector's name."""

    @abc.abstractmethod
    def statement(self, query: str) -> str:
        """Return the SQL text of the query named *query*.

        :raises LookupError: if there is no such query; the message lists the known ones
        """

    @abc.abstractmethod
    async def fetch_all(
        self, query: str, params: Mapping[str, Any] | None = None, /, **more: Any
    ) -> list[dict[str, Any]]:
        """Run the query named *query* and return its rows.

        :param params: values of the bound parameters
        :param more: further values, as keywords
        """

    @abc.abstractmethod
    async def fetch_one(
        self, query: str, params: Mapping[str, Any] | None = None, /, **more: Any
    ) -> dict[str, Any] | None:
        """Run the query named *query* and return its first row, or None if there is none."""

    @abc.abstractmethod
    async def fetch_value(self, query: str, params: Mapping[str, Any] | None = None, /, **more: Any) -> Any:
        """Run the query named *query* and return the first value of its first row, or None if there is no row."""

    @abc.abstractmethod
    async def execute(
        self,
        query: str,
        params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        /,
        **more: Any,
    ) -> int:
        """Run the statement named *query*, commit, and return the number of affected rows.

        :param params: values of the bound parameters, or a list of them to run it for each
        """


class ApiConnector(abc.ABC):
    """A ``[connectors.NAME]`` of type ``api``: an HTTP service's address, credentials and named endpoints."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The connector's name."""

    @abc.abstractmethod
    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request and return the response, whatever its status.

        :param path: relative to the connector's ``base_url``
        :param options: options of ``httpx.AsyncClient.request``: params, json, headers, timeout …
        """

    @abc.abstractmethod
    async def call(self, endpoint: str, /, *, path: Mapping[str, Any] | None = None, **options: Any) -> httpx.Response:
        """Send the request that *endpoint* names and return the response.

        :param path: values of the ``{placeholders}`` in the endpoint's path
        :param options: as for `request`; they override those of the endpoint
        :raises LookupError: if there is no such endpoint; the message lists the known ones
        :raises StepFailed: if the answer's status is 400 or above
        """


class ConnectorRegistry(abc.ABC):
    """Every pool and connector of the project's connectors.toml."""

    @property
    @abc.abstractmethod
    def pools(self) -> ConnectorPools:
        """The database pools."""

    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """Return the names of all connectors, sorted."""

    @abc.abstractmethod
    def sql(self, name: str) -> SqlConnector:
        """Return the SQL connector *name*.

        :raises LookupError: if there is none of that name and type; the message lists the known ones
        """

    @abc.abstractmethod
    def api(self, name: str) -> ApiConnector:
        """Return the API connector *name*.

        :raises LookupError: if there is none of that name and type; the message lists the known ones
        """

    @abc.abstractmethod
    def connector(self, name: str) -> Any:
        """Return the connector *name* of any type, including those that plugins contribute.

        :raises LookupError: if there is none of that name; the message lists the known ones
        """
