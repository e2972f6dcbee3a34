"""The registry: real SQLite pools, real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest
import sqlalchemy

from nomaflow import ConnectorRegistry, StepFailed
from nomaflow_host.connectors.errors import ConnectorsError
from nomaflow_host.connectors.registry import HostConnectorRegistry
from nomaflow_project.connectors.connector_set import ConnectorSet

if TYPE_CHECKING:
    from pathlib import Path

Read = Callable[..., ConnectorSet]

LITE = """
[pools.default]
url = "sqlite:///data.db"
pool_size = 2
pool_pre_ping = true
[pools.memory]
url = "sqlite://"
pool_size = 3
[connectors.notes]
type = "sql"
pool = "default"
[connectors.notes.queries]
create = "CREATE TABLE note (id INTEGER, body TEXT)"
add = "INSERT INTO note VALUES (:id, :body)"
all = "SELECT id, body FROM note ORDER BY id"
count = "SELECT count(*) FROM note WHERE id >= :least"
"""


@contextlib.asynccontextmanager
async def opened(resolved: ConnectorSet) -> AsyncIterator[HostConnectorRegistry]:
    """Close the registry at the end."""
    registry = HostConnectorRegistry(resolved)
    try:
        yield registry
    finally:
        await registry.aclose()
        await registry.aclose()


async def test_engines(read: Read, tmp_path: Path) -> None:
    """A relative SQLite path lies in the project; the async and the sync engine see the same file; engines are kept."""
    async with opened(read(LITE)) as registry:
        assert isinstance(registry, ConnectorRegistry)
        engine = registry.pools.engine("default")
        assert engine is registry.pools.engine("default")
        async with engine.begin() as connection:
            await connection.execute(sqlalchemy.text("CREATE TABLE t AS SELECT 5 AS n"))
        with registry.pools.sync_engine("default").connect() as plain:
            assert plain.execute(sqlalchemy.text("SELECT n FROM t")).scalar_one() == 5
        async with registry.pools.engine("memory").connect() as connection:
            assert (await connection.execute(sqlalchemy.text("SELECT 1"))).scalar_one() == 1
    assert (tmp_path / "data.db").exists()
    assert engine.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # a queue pool


async def test_named_queries(read: Read) -> None:
    """Named queries run with bound parameters, each in a transaction of its own."""
    async with opened(read(LITE)) as registry:
        notes = registry.sql("notes")
        await notes.execute("create")
        assert await notes.execute("add", {"id": 1, "body": "a'; DROP TABLE note; --"}) == 1
        assert await notes.execute("add", [{"id": 2}, {"id": 3}], body="x") == 2
        assert await notes.execute("add", []) == 0
        assert await notes.fetch_all("all") == [
            {"id": 1, "body": "a'; DROP TABLE note; --"},
            {"id": 2, "body": "x"},
            {"id": 3, "body": "x"},
        ]
        assert await notes.fetch_one("all") == {"id": 1, "body": "a'; DROP TABLE note; --"}
        assert await notes.fetch_value("count", least=2) == 2
        assert notes.statement("all").startswith("SELECT")


async def test_wrong_names(read: Read) -> None:
    """A wrong name lists the known ones and the near match."""
    async with opened(read(LITE)) as registry:
        with pytest.raises(
            LookupError, match=r"no pool 'defualt' \(did you mean 'default'\? known: 'default', 'memory'\)"
        ):
            registry.pools.engine("defualt")
        with pytest.raises(LookupError, match="no connector of type 'sql' named 'nots'"):
            registry.sql("nots")
        with pytest.raises(ConnectorsError, match=r"of type 'sql', not 'api' \(use connectors\.sql\('notes'\)\)"):
            registry.api("notes")
        with pytest.raises(LookupError, match=r"query of connector 'notes' named 'al'"):
            await registry.sql("notes").fetch_all("al")
        with pytest.raises(LookupError, match="no connector 'x'"):
            registry.connector("x")


async def test_drivers(read: Read) -> None:
    """The driver follows from which engine is asked for, and the password goes in without showing."""
    text = """
    [pools.a]
    url = "postgres://app@db/main?sslmode=require"
    password = "p@ss/word"
    [pools.b]
    url = "postgresql+psycopg://app@db/main"
    [pools.c]
    url = "sqlite+pysqlite:////abs/x.db"
    [pools.d]
    url = "nosuchdb://app:p%40ss@db/main"
    """
    async with opened(read(text)) as registry:
        engine = registry.pools.engine("a")
        assert engine.url.drivername == "postgresql+asyncpg"
        assert engine.url.password == "p@ss/word"
        assert dict(engine.url.query) == {"ssl": "require"}
        assert "p@ss" not in repr(engine)
        assert registry.pools.sync_engine("a").url.drivername == "postgresql+psycopg"
        assert registry.pools.engine("b").url.drivername == "postgresql+psycopg"
        assert registry.pools.engine("c").url.drivername == "sqlite+aiosqlite"
        assert registry.pools.engine("c").url.database == "/abs/x.db"
        with pytest.raises(ConnectorsError, match=r"pools\.d: ") as caught:
            registry.pools.engine("d")
        assert "p@ss" not in str(caught.value)
        assert "p%40ss" not in str(caught.value)
        assert "p@ss" not in repr(registry) + repr(registry.pools)


async def test_unreachable_database_keeps_the_password(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    """A failed connection's error and log do not contain the password."""
    caplog.set_level(logging.DEBUG)
    text = '[pools.p]\nurl = "postgresql://app@127.0.0.1:1/main"\npassword = "hunter2"\necho = true'
    async with opened(read(text)) as registry:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the system's own error, of which the text varies
            async with registry.pools.engine("p").connect():
                pass
    assert "hunter2" not in str(caught.value) + repr(caught.value) + caplog.text


Answer = Callable[[str, dict[str, str], bytes], tuple[int, dict[str, object]]]


@contextlib.asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """Serve HTTP on a free port of the loopback; yield its address and the requests seen."""
    seen: list[tuple[str, dict[str, str], bytes]] = []
    handlers: list[asyncio.Task[None] | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *rest = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in rest)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        seen.append((line, headers, body))
        status, document = answer(line, headers, body)
        if status:
            content = json.dumps(document).encode()
            writer.write(
                f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n".encode() + content
            )
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen
    # A connection that outlived the loop would be blamed on a later test.
    await asyncio.gather(*filter(None, handlers), return_exceptions=True)


def api_of(read: Read, address: str, rest: str = "") -> ConnectorSet:
    """Return a connectors.toml with one API at the address."""
    return read(f'[connectors.crm]\ntype = "api"\nbase_url = "{address}/v1"\nretry_backoff_seconds = 0.001\n{rest}')


@pytest.mark.parametrize(
    ("auth", "header", "expected"),
    [
        ('{ type = "none" }', "authorization", None),
        ('{ type = "basic", username = "u", password = "p" }', "authorization", "Basic dTpw"),
        ('{ type = "bearer", token = "T" }', "authorization", "Bearer T"),
        ('{ type = "api_key", name = "X-Key", value = "K" }', "x-key", "K"),
    ],
)
async def test_auth(read: Read, auth: str, header: str, expected: str | None) -> None:
    """Each kind of credential reaches the service."""
    async with (
        served(lambda *_: (200, {"ok": True})) as (address, seen),
        opened(api_of(read, address, f'auth = {auth}\nheaders = {{ "X-Team" = "ops" }}')) as registry,
    ):
        response = await registry.api("crm").request("get", "/ping", params={"a": "1"})
        assert response.json() == {"ok": True}
        assert seen[0][0] == "GET /v1/ping?a=1 HTTP/1.1"
        assert seen[0][1].get(header) == expected
        assert seen[0][1]["x-team"] == "ops"


async def test_api_key_in_query(read: Read) -> None:
    """A key may go into the query."""
    auth = 'auth = { type = "api_key", name = "key", value = "K", in = "query" }'
    async with served(lambda *_: (200, {})) as (address, seen), opened(api_of(read, address, auth)) as registry:
        await registry.api("crm").request("GET", "x", params={"a": "1"})
        assert seen[0][0] == "GET /v1/x?a=1&key=K HTTP/1.1"


async def test_oauth2(read: Read) -> None:
    """A token is fetched once, reused, fetched again after a 401; an error about a missing one hides the secret."""
    issued = iter(["T1", "T2"])

    def answer(line: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, object]]:
        if line.startswith("POST /token"):
            assert b"client_secret=S" in body
            token = next(issued, None)
            return (200, {"access_token": token, "expires_in": 3600}) if token else (400, {"error": "S"})
        return (401, {}) if "/old" in line and headers["authorization"] == "Bearer T1" else (200, {})

    async with served(answer) as (address, seen):
        auth = f'{{ type = "oauth2", token_url = "{address}/token", client_id = "I", client_secret = "S" }}'
        async with opened(api_of(read, address, f"auth = {auth}")) as registry:
            api = registry.api("crm")
            for path in ("a", "b", "old"):
                assert (await api.request("GET", path)).status_code == 200
            assert [line.split()[1] for line, _, _ in seen] == [
                "/token",
                "/v1/a",
                "/v1/b",
                "/v1/old",
                "/token",
                "/v1/old",
            ]
        async with opened(api_of(read, address, f"auth = {auth}")) as registry:
            with pytest.raises(StepFailed, match="token_url answered 400") as caught:
                await registry.api("crm").request("GET", "a")
            assert "S" not in str(caught.value).replace("StepFailed", "")


async def test_a_token_without_a_lifetime_is_used(read: Read) -> None:
    """Some servers leave it out, and some write null."""
    untold = iter([{"access_token": "T"}, {"access_token": "T", "expires_in": None}])
    async with served(lambda line, *_: (200, next(untold) if line.startswith("POST") else {})) as (address, seen):
        auth = f'{{ type = "oauth2", token_url = "{address}/token", client_id = "I", client_secret = "S" }}'
        for _ in range(2):
            async with opened(api_of(read, address, f"auth = {auth}")) as registry:
                assert (await registry.api("crm").request("GET", "a")).status_code == 200
        assert [line.split()[1] for line, _, _ in seen] == ["/token", "/v1/a"] * 2


async def test_retries(read: Read) -> None:
    """A request that is safe to repeat is tried again, up to the limit; a POST is sent once."""
    statuses = iter([503, 0, 200, 503, 503, 503, 503])
    async with served(lambda *_: (next(statuses), {})) as (address, seen), opened(api_of(read, address)) as registry:
        api = registry.api("crm")
        assert (await api.request("GET", "a")).status_code == 200
        assert len(seen) == 3
        assert (await api.request("GET", "a")).status_code == 503
        assert len(seen) == 6
        assert (await api.request("POST", "a")).status_code == 503
        assert len(seen) == 7
    async with opened(api_of(read, "http://127.0.0.1:1")) as registry:
        with pytest.raises(StepFailed, match="'crm' had no answer to GET a: ConnectError after 3 tries"):
            await registry.api("crm").request("GET", "a")


async def test_endpoints(read: Read) -> None:
    """Named endpoints fill their path, merge their parameters, and turn an error status into a StepFailed."""
    rest = """
    [connectors.crm.endpoints.invoice]
    method = "POST"
    path = "/invoices/{number}"
    params = { full = "1" }
    """
    for number, path in enumerate(("a/{", "{0}", "{x.y}")):
        rest += f'[connectors.crm.endpoints.wrong{number}]\npath = "/{path}"\n'
    statuses = iter([200, 404])
    async with (
        served(lambda *_: (next(statuses), {})) as (address, seen),
        opened(api_of(read, address, rest)) as registry,
    ):
        api = registry.api("crm")
        await api.call("invoice", path={"number": "../a b"}, params={"x": "2"}, json={"n": 1})
        assert seen[0][0] == "POST /v1/invoices/..%2Fa%20b?full=1&x=2 HTTP/1.1"
        assert seen[0][2] == b'{"n":1}'
        with pytest.raises(StepFailed, match="answered POST /invoices/7 with 404"):
            await api.call("invoice", path={"number": 7})
        with pytest.raises(StepFailed, match=r"needs 'number' for its path"):
            await api.call("invoice")
        with pytest.raises(LookupError, match=r"endpoint of connector 'crm' named 'invoic' \(did you mean 'invoice'"):
            await api.call("invoic")
        for number in range(3):
            with pytest.raises(ConnectorsError, match=rf"'wrong{number}' cannot .* its path .* is malformed: .*{{{{"):
                await api.call(f"wrong{number}", path={"x": 1})


async def test_plugin_types(read: Read) -> None:
    """A type that a plugin contributes is made once with its table, and closed at the end."""
    closed: list[str] = []

    class Ftp:
        def __init__(self, name: str, host: str) -> None:
            self.name, self.host = name, host

        async def aclose(self) -> None:
            closed.append(self.name)

    resolved = read('[connectors.files]\ntype = "ftp"\nhost = "h"\n[connectors.odd]\ntype = "ftpp"')
    registry = HostConnectorRegistry(resolved, types={"ftp": lambda name, table, _: Ftp(name, table["host"])})
    assert registry.connector("files") is registry.connector("files")
    assert registry.connector("files").host == "h"
    with pytest.raises(LookupError, match=r"type for connector 'odd' named 'ftpp' \(did you mean 'ftp'"):
        registry.connector("odd")
    await registry.aclose()
    assert closed == ["files"]


async def test_a_factory_that_is_async_is_refused(read: Read) -> None:
    """By the connector's name, rather than handing its coroutine to a step."""

    async def ftp(*_: object) -> object:
        return object()

    registry = HostConnectorRegistry(read('[connectors.files]\ntype = "ftp"'), types={"ftp": ftp})
    with pytest.raises(
        ConnectorsError, match=r"connectors\.files: the factory of type 'ftp' is async, expected a plain"
    ):
        registry.connector("files")


async def test_an_api_on_loops_of_their_own(read: Read) -> None:
    """A sync step that runs coroutines on loops of its own shares no connection with them, nor leaves one behind."""
    connections: list[asyncio.Task[None] | None] = []

    async def kept_alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(kept_alive, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, opened(api_of(read, address)) as registry:

        async def twice() -> list[int]:
            api = registry.api("crm")
            return [(await api.request("GET", "a")).status_code for _ in range(2)]

        def loops() -> list[list[int]]:
            return [asyncio.run(twice()) for _ in range(3)]

        assert await twice() == [200, 200]
        assert await asyncio.to_thread(loops) == [[200, 200]] * 3
        assert await twice() == [200, 200]
        assert len(connections) == 7, "one is kept on the loop that stays, none on those that end"
    await asyncio.gather(*filter(None, connections))


async def test_a_token_as_the_original_asks_for_it(read: Read) -> None:
    """The body is filled and escaped, the token is found by its path, kept, and fetched again after a 401."""
    issued = iter(["T1", "T2"])

    def answer(line: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, object]]:
        if line.startswith("POST /v1/login"):
            assert json.loads(body) == {"user": 'a"b', "pw": "S"}
            assert (headers["x-client"], headers["content-type"]) == ("S", "application/json")
            return 200, {"data": [{"token": token} for token in [next(issued, None)] if token]}
        old = "/old" in line and headers["authorization"] == "Bearer T1"
        return (401, {}) if old or "/gone" in line else (200, {})

    rest = """
    auth_type = "oauth2"
    auth_username = 'a"b'
    auth_password = "S"
    auth_token_endpoint = "/login"
    auth_token_body = '{"user": "{{username}}", "pw": "{{password}}"}'
    auth_token_headers = { X-Client = "{{password}}" }
    auth_token_field = "data.0.token"
    endpoints = [{ name = "get", path = "{{where}}" }]
    """
    async with served(answer) as (address, seen):
        resolved = read(f'[connectors.crm]\ntype = "api"\nbase_url = "{address}/v1"\n{rest}')
        async with opened(resolved) as registry:
            for where in ("a", "old"):
                assert (await registry.api("crm").call("get", path={"where": where})).status_code == 200
            with pytest.raises(StepFailed, match="needs a value for 'where'"):
                await registry.api("crm").call("get")
            with pytest.raises(StepFailed, match=r"auth_token_endpoint answered 200 .*check auth_username and"):
                await registry.api("crm").call("get", path={"where": "gone"})
    assert [line.split()[1] for line, _, _ in seen][:5] == ["/v1/login", "/v1/a", "/v1/old", "/v1/login", "/v1/old"]
