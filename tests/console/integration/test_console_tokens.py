"""A login with a token, where the console calls a kernel over TCP: calls carry that token and its grants."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from console_system import ConsoleSystem

from doors import Doors, create_token, doors_of
from nomaflow_api.v1 import access_service_pb2 as access
from real_system import System, free_ports


@dataclass(frozen=True, kw_only=True)
class World:
    """A kernel on TCP, and a console without access of its own."""

    console: ConsoleSystem
    doors: Doors

    def token(self, name: str, *grants: str) -> str:
        """Return a new token of a service."""
        return asyncio.run(create_token(self.doors, kind=access.TOKEN_KIND_SERVICE, name=name, grants=grants))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for all tests of this module."""
    folder = tmp_path_factory.mktemp("tokens")
    system = System(root=folder)
    port = free_ports(3)
    kernel = system.start_kernel("--address", f"tls://127.0.0.1:{port}")
    doors = doors_of(kernel)
    ca = folder / "ca.pem"
    ca.write_bytes(doors.authorities)
    flags = ("--listen", "127.0.0.1:0", "--address", f"tls://{doors.clients}", "--ca", str(ca))
    console = ConsoleSystem(system=system, flags=flags)
    try:
        console.start()
        yield World(console=console, doors=doors)
    finally:
        if console.console is not None:
            console.console.stop()
        system.close()


@pytest.fixture
def visitor(world: World) -> Iterator[httpx.Client]:
    """A browser without a session."""
    with world.console.visitor() as made:
        yield made


def test_a_token_logs_in_and_the_session_is_its_owners(world: World, visitor: httpx.Client) -> None:
    """The page names the token's owner; the token itself is on no page and in no readable cookie."""
    token = world.token("ci", "read *", "operate *")
    answer = visitor.post("/login", data={"token": token, "next": "/kernel"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/kernel")
    assert token not in answer.headers["set-cookie"]
    page = visitor.get("/kernel")
    assert page.status_code == 200
    assert "Logged in as ci" in page.text
    assert token not in page.text


def test_the_kernel_decides_by_the_tokens_grants(world: World, visitor: httpx.Client) -> None:
    """The kernel refuses what the token may not do, and nothing changes; a token with the grant succeeds."""
    for name, grants, status in (("viewer", ["read *"], 403), ("operator", ["read *", "operate *"], 303)):
        visitor.cookies.clear()
        visitor.post("/login", data={"token": world.token(name, *grants)})
        page = visitor.get("/kernel").text
        found = re.search(r'name="csrf" value="(\w+)"', page)
        assert found is not None
        assert ('href="/pause"' in page) is (name == "operator")  # what would be refused is not offered
        answer = visitor.post("/pause", data={"csrf": found[1], "why": "a test", "request_id": name})
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("token", ["nft1.wrong", "x" * 2_000, "é", "a\nb"])
def test_a_wrong_token_is_refused(visitor: httpx.Client, token: str) -> None:
    """Nobody is logged in, and the page says why."""
    answer = visitor.post("/login", data={"token": token})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert 'role="alert"' in answer.text


def test_a_withdrawn_token_ends_what_its_session_may(world: World, visitor: httpx.Client) -> None:
    """The kernel refuses it at the next call."""
    visitor.post("/login", data={"token": world.token("gone", "read *")})
    assert visitor.get("/kernel").status_code == 200
    world.console.system.cli("token", "revoke", "gone")
    assert visitor.get("/kernel.json").status_code in (401, 403)


def test_a_console_without_access_of_its_own_takes_no_links(world: World, visitor: httpx.Client) -> None:
    """A link would log in somebody whom the kernel does not know."""
    answer = visitor.post("/login", data={"code": world.console.code()})
    assert answer.status_code == 403
    assert "log in with a token" in answer.text
    page = visitor.get("/login").text
    assert 'name="token"' in page
    assert 'name="code"' not in page


def test_a_session_of_a_token_survives_a_restart_of_the_console(world: World, visitor: httpx.Client) -> None:
    """The token is in the cookie, sealed, and nowhere on the console's disk."""
    token = world.token("stays", "read *")
    visitor.post("/login", data={"token": token})
    world.console.console.kill()
    world.console.start()
    visitor.base_url = world.console.base
    assert visitor.get("/kernel").status_code == 200
    kept = [path for path in Path(world.console.project).rglob("*") if path.is_file()]
    assert not [path.name for path in kept if path.name.startswith("console") and token.encode() in path.read_bytes()]
