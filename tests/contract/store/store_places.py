"""The place of a store under test, with access that bypasses the store."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from postgres_server import SUPERUSER, PostgresServer
from processes import open_files


class Place:
    """The place of a store, with access that bypasses the store."""

    kind: str
    url: str

    async def sql(self, statement: str) -> list[tuple[object, ...]]:
        """Execute a statement on a connection of its own and return its rows."""
        raise AssertionError("each kind has its own")

    async def leftovers(self) -> int:
        """Return how many connections to the database this process has left open."""
        raise AssertionError("each kind has its own")

    async def nothing_left(self) -> bool:
        """Return True if no connection is left: a server ends its sessions a moment after their connections."""
        return await self.leftovers() == 0


class SqlitePlace(Place):
    """An SQLite file."""

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    async def sql(self, statement: str) -> list[tuple[object, ...]]:
        """Execute on a plain sqlite3 connection."""
        import sqlite3

        connection = sqlite3.connect(self.path, timeout=5)
        try:
            rows = connection.execute(statement).fetchall()
            connection.commit()
        finally:
            connection.close()
        return rows

    async def leftovers(self) -> int:
        """Return how many descriptors name the file or its companions."""
        return sum(name.startswith(str(self.path)) for name in open_files().values())


class PostgresPlace(Place):
    """A database of the suite's server."""

    kind = "postgresql"

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server = server
        self.name = name
        self.url = server.url(name)

    async def sql(self, statement: str) -> list[tuple[object, ...]]:
        """Execute on a connection of its own."""
        return await self.sql_in(self.name, statement)

    async def leftovers(self) -> int:
        """Return how many sessions the database has."""
        rows = await self.sql_in("postgres", f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{self.name}'")
        return int(str(rows[0][0]))

    async def create(self) -> None:
        """Make the database."""
        await self.sql_in("postgres", f"CREATE DATABASE {self.name}")

    async def drop(self) -> None:
        """Remove it."""
        await self.sql_in("postgres", f"DROP DATABASE {self.name} WITH (FORCE)")

    async def empty(self) -> None:
        """End its sessions, remove all that is in it and forget what was set for it, so that it is as new."""
        left = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{self.name}'"
        await self.sql_in("postgres", left)
        await self.sql_in("postgres", f"ALTER DATABASE {self.name} RESET ALL")
        await self.sql("DO 'BEGIN DROP SCHEMA public CASCADE; CREATE SCHEMA public; END'")

    async def sql_in(self, database: str, statement: str) -> list[tuple[object, ...]]:
        """Execute on a connection of its own to any database of the server."""
        connection = await asyncpg.connect(host=str(self.server.folder), user=SUPERUSER, database=database)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()
