"""Requests that do not come whole, on real sockets, with a shorter limit than the console's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from nomaflow_console import connections
from nomaflow_console.connections import PromptProtocol

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n"


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Serve an application that reads a request and answers, with a limit of one second."""
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 1.0)

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(app, log_config=None, lifespan="off", access_log=False)
    config.load()
    state, waiting = ServerState(), dict[PromptProtocol, None]()
    server = await asyncio.get_running_loop().create_server(
        lambda: PromptProtocol(config=config, server_state=state, app_state={}, waiting=waiting), "127.0.0.1"
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(("begun", "more"), [(HEAD + b"\r\n", b"a"), (HEAD, b"x-a: b\r\n"), (b"", b"")])
async def test_a_request_that_does_not_come_whole_ends_its_connection(port: int, begun: bytes, more: bytes) -> None:
    """The connection ends even if a byte comes now and then: in the body, in the head, or before either."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begun)
    over = asyncio.ensure_future(reader.read())
    while not over.done():
        with contextlib.suppress(ConnectionError):
            writer.write(more)
        await asyncio.wait([over], timeout=0.2)
    assert isinstance(over.exception(), ConnectionError) or over.result() == b""
    writer.close()
