"""A login with a token, where the console calls a kernel over TCP: calls carry that token and its grants."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from console_system import ConsoleSystem
from page_forms import text_of

from doors import Doors, create_token, doors_of
from nomaflow_api.v1 import access_service_pb2 as access
from real_system import System, eventually, free_ports


@dataclass(frozen=True, kw_only=True)
class World:
    """A kernel on TCP, a run that has ended, and a console without access of its own."""

    console: ConsoleSystem
    doors: Doors
    run_id: str
    port: int

    def token(self, name: str, *grants: str, roles: Sequence[str] = ()) -> str:
        """Return a new token of a service."""
        kind = access.TOKEN_KIND_SERVICE
        return asyncio.run(create_token(self.doors, kind=kind, name=name, grants=grants, roles=roles))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for all tests of this module."""
    folder = tmp_path_factory.mktemp("tokens")
    system = System(root=folder)
    port = free_ports(3)
    kernel = system.start_kernel("--address", f"tls://127.0.0.1:{port}")
    project = system.kernel_project
    (project / "plugins").mkdir(parents=True)
    (project / "plugins" / "saying.py").write_text('def says():\n    print("a-line-of-the-log")\n')
    (project / "jobs.toml").write_text('jobs = [{ id = "says", steps = [{ callable = "saying:says" }] }]\n')
    system.launch_host("host", project)
    eventually(lambda: [job for job in system.api.list_jobs().jobs if job.valid], seconds=120)
    run_id = system.api.trigger("says").run_id
    assert system.api.wait(run_id).state == "SUCCEEDED"
    doors = doors_of(kernel)
    ca = folder / "ca.pem"
    ca.write_bytes(doors.authorities)
    flags = ("--listen", "127.0.0.1:0", "--address", f"tls://{doors.clients}", "--ca", str(ca))
    console = ConsoleSystem(system=system, flags=flags)
    try:
        console.start()
        yield World(console=console, doors=doors, run_id=run_id, port=port)
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


def test_the_page_of_the_kernel_names_the_callers_roles(world: World, visitor: httpx.Client) -> None:
    """Each stands by itself, with its scope."""
    visitor.post("/login", data={"token": world.token("both", roles=("reader", "operator job:says"))})
    assert "service, role reader, role operator job:says<" in visitor.get("/kernel").text


def test_the_kernel_decides_by_the_tokens_grants(world: World, visitor: httpx.Client) -> None:
    """The kernel refuses what the token may not do, and nothing changes; a token with the grant succeeds."""
    for name, grants, status in (("viewer", ["read *"], 403), ("operator", ["read *", "operate *"], 303)):
        visitor.cookies.clear()
        visitor.post("/login", data={"token": world.token(name, *grants)})
        page = visitor.get("/kernel").text
        found = re.search(r'name="csrf" value="(\w+)"', page)
        assert found is not None
        assert ('href="/pause"' in page) is (name == "operator")  # what would be refused is not offered
        answer = visitor.post("/pause", data={"csrf": found[1], "why": "a test", "until": "open"})
        assert answer.status_code == status, answer.text


def test_what_a_token_may_not_do_is_offered_nowhere(world: World, visitor: httpx.Client) -> None:
    """A reader finds no button that the kernel would refuse, and who has one job's grant finds that job's."""
    acts = {
        "trigger": ('href="/jobs/says/run"', f"/runs/{world.run_id}/replay", 'value="replay"'),
        "operate": ('href="/jobs/says/pause"', 'href="/pause"'),
        "cancel": ('value="cancel"',),
    }
    pages = ("/", "/runs?since=ever", "/jobs/says", f"/runs/{world.run_id}", "/search?q=says")
    for name, grants in (
        ("looker", ["read *"]),
        ("runner", ["read *", "trigger job:says"]),
        ("boss", ["read *", "trigger *", "operate *", "cancel *"]),
    ):
        visitor.cookies.clear()
        visitor.post("/login", data={"token": world.token(name, *grants)})
        shown = {place: visitor.get(place).text for place in pages}
        for verb, marks in acts.items():
            allowed = any(grant.startswith(verb) for grant in grants)
            odd = {mark: [place for place in pages if mark in shown[place]] for mark in marks}
            assert {mark: bool(places) for mark, places in odd.items()} == dict.fromkeys(marks, allowed), (name, odd)


def test_a_token_s_session_ends_where_its_token_says_nothing(world: World, visitor: httpx.Client) -> None:
    """At the owner's socket whoever calls is the owner, and so would be each viewer with a cookie of before."""
    console = world.console
    visitor.post("/login", data={"token": world.token("onlooker", "read job:none")})
    assert visitor.get("/kernel").status_code == 200
    console.console.stop()
    flags, console.flags = console.flags, ()
    try:
        console.start()
        with console.visitor() as later:
            later.cookies = visitor.cookies
            answer = later.get("/jobs/says")
            assert (answer.status_code, answer.headers.get("location")) == (303, "/login?next=/jobs/says")
    finally:
        console.console.stop()
        console.flags = flags
        console.start()


def test_a_filter_does_not_tell_whether_there_is_what_one_may_not_see(world: World, visitor: httpx.Client) -> None:
    """The page says the same about a job or host of others and about none; the host of one's own job is known."""
    [job] = world.console.system.api.list_jobs().jobs
    visitor.post("/login", data={"token": world.token("narrow", "read job:other")})
    for name, there, said in (
        ("job", job.job_id, "narrow may not read job:…, or it does not exist"),
        ("host", job.host, "no host that you may see has the name '…'"),
    ):
        pages = [text_of(visitor.get(f"/runs?{name}={each}")) for each in (there, "nosuch")]
        told = [page.partition("▲ ")[2].partition(" State ")[0] for page in pages]
        assert told[0].replace(there, "…").startswith(said)
        assert told[0].replace(there, "…") == told[1].replace("nosuch", "…")
    visitor.cookies.clear()
    visitor.post("/login", data={"token": world.token("says", "read job:says")})
    assert "no host that you may see" not in text_of(visitor.get(f"/runs?host={job.host}&state=CANCELED"))


def test_what_a_token_does_not_show_is_not_told_as_missing(world: World, visitor: httpx.Client) -> None:
    """There is a host, and a job; who may see neither is not told to start one."""
    pages = {"/hosts": "No host that you may see", "/": "No job that you may see"}
    for grants, told in ((["read job:other"], True), (["read *"], False)):
        visitor.cookies.clear()
        visitor.post("/login", data={"token": world.token(f"sees-{told}".lower(), *grants)})
        shown = {place: visitor.get(place).text for place in pages}
        assert [pages[place] in text for place, text in shown.items()] == [told, told]
        assert [", of what you may see." in shown["/"], "of 0 hosts" in shown["/"]] == [told, False]
        assert "nomaflow host DIR" not in shown["/hosts"]
        if told:
            assert "What you may do" in visitor.get(f"/runs/{world.run_id}").text


def test_who_may_not_read_the_log_sees_the_run_and_not_a_line_of_it(world: World, visitor: httpx.Client) -> None:
    """A3: the page says which grant is missing; lines, search and downloads are refused, none of them half-way."""
    run_id = world.run_id
    for grants, status in ((["read *"], 403), (["read *", "logs *"], 200)):
        visitor.cookies.clear()
        visitor.post("/login", data={"token": world.token(f"reader{status}", *grants)})
        page = visitor.get(f"/runs/{run_id}")
        assert page.status_code == 200, page.text
        assert ("needs the grant logs" in page.text) is (status == 403)
        assert ("a-line-of-the-log" in page.text) is (status == 200)
        for place in ("/log.txt", "/log.json", "/log/lines", "/log/search?q=a-line"):
            answer = visitor.get(f"/runs/{run_id}{place}")
            assert (place, answer.status_code) == (place, status)
            assert status == 200 or "a-line-of-the-log" not in answer.text
    visitor.cookies.clear()
    visitor.post("/login", data={"token": world.token("starter", "trigger *")})
    assert visitor.get("/runs.csv").status_code == 403


@pytest.mark.parametrize(
    "place",
    [
        "/log/lines?seq=--5", "/log/lines?seq=-5&level=10", "/log/lines?error_before=-99999999999999",
        "/log/search?after=-1", "/log.txt?try=999999999999999&level=999999999999999", "/log.txt?to=-7",
        "/log/lines?row=٣", "/inspect/says/99999999999",
    ],
)  # fmt: skip
def test_numbers_of_an_address_cause_no_error_of_the_console(world: World, visitor: httpx.Client, place: str) -> None:
    """Negative ones, ones that no field holds, and what merely looks like one."""
    run_id = world.run_id
    visitor.post("/login", data={"token": world.token("numbers", "read *", "logs *")})
    answer = visitor.get(f"/runs/{run_id}{place}")
    assert answer.status_code in (200, 400, 404, 409), answer.text


@pytest.mark.parametrize("token", ["nft1.wrong", "x" * 2_000, "é", "a\nb"])
def test_a_wrong_token_is_refused(visitor: httpx.Client, token: str) -> None:
    """The visitor is not logged in, and the page says why."""
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
    for path in Path(world.console.project).rglob("console*"):
        with contextlib.suppress(OSError):  # a folder, or its owner has removed it meanwhile
            assert token.encode() not in path.read_bytes(), path


def test_pages_of_a_withdrawn_token_are_shown_to_nobody_while_the_kernel_is_away(world: World) -> None:
    """The console notices it by itself, also if nobody asks in between; the pages of other tokens stay readable."""
    system, console = world.console.system, world.console
    with console.visitor() as gone, console.visitor() as stays:
        for visitor, name in ((gone, "withdrawn"), (stays, "kept")):
            visitor.post("/login", data={"token": world.token(name, "read *")})
            assert "says" in visitor.get("/runs").text
        assert gone.get("/activity").status_code == 200  # two pages, by which the log tells it from other tokens
        before = len(console.console.log)
        system.cli("token", "revoke", "withdrawn")
        eventually(lambda: "2 pages that were shown by a token are no longer" in console.console.log[before:])
        system.kill("kernel")
        try:
            eventually(lambda: stays.get("/").status_code == 503)
            answer = stays.get("/runs")
            assert answer.status_code == 200
            assert "as of" in answer.text
            answer = gone.get("/runs")
            assert answer.status_code == 503
            assert "says" not in answer.text
        finally:
            system.start_kernel("--address", f"tls://127.0.0.1:{world.port}")
