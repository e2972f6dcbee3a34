"""Pages that are remembered for a kernel that is away: whose they are, how new, and how many."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from starlette.requests import Request

from nomaflow_console.access.sessions import Session
from nomaflow_console.remembered_pages import PageMemory, ShownPage, stream_of
from nomaflow_console.rendering import live_part, stream_address

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
ANN = Session(id="1", name="ann", principal="owner", csrf="c", zone="Europe/Paris")


def asked(path: str, query: str = "", session: Session = ANN) -> Request:
    """Return a request for an address."""
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": [],
        "server": ("127.0.0.1", 80), "scheme": "http", "state": {"session": session},
    }  # fmt: skip
    return Request(scope)


def shown(view: str = "runs", characters: int = 10, **context: Any) -> ShownPage:
    """Return a page with a stream."""
    return ShownPage(
        template="x.html", context=context, live=f"/live?view={view}&after=7.0", stream=f"view={view}",
        as_of=LONG_AGO, characters=characters,
    )  # fmt: skip


def test_a_page_is_remembered_by_its_whole_address() -> None:
    """Another filter is another page; the newest answer counts."""
    memory = PageMemory()
    memory.keep(asked("/runs", "state=FAILED"), shown(rows=1))
    memory.keep(asked("/runs", "state=FAILED"), shown(rows=2))
    found = memory.of(asked("/runs", "state=FAILED"))
    assert found is not None
    assert found.context == {"rows": 2}
    assert memory.of(asked("/runs")) is None
    assert memory.of(asked("/runs", "state=MISSED")) is None


def test_only_those_who_call_by_the_same_token_share_a_page() -> None:
    """Grants differ from token to token, and times from zone to zone."""
    memory = PageMemory()
    memory.keep(asked("/runs"), shown())
    assert memory.of(asked("/runs", session=replace(ANN, id="2", name="bob"))) is not None
    assert memory.of(asked("/runs", session=replace(ANN, token="nft_bob"))) is None
    assert memory.of(asked("/runs", session=replace(ANN, zone="UTC"))) is None


def test_a_stream_makes_its_page_newer() -> None:
    """Its live parts are remembered as they are shown, with their time; the rest of the page stays."""
    memory = PageMemory()
    memory.keep(asked("/runs"), shown(rows=1, title="Runs"))
    memory.renew(asked("/live", "view=runs&after=9.0&once=1&as_of=5"), {"rows": 2}, 10)
    memory.renew(asked("/live", "view=jobs&after=9.0"), {"rows": 3}, 10)
    memory.renew(asked("/live", "view=runs&after=9.0", session=replace(ANN, token="nft_bob")), {"rows": 4}, 10)
    found = memory.of(asked("/runs"))
    assert found is not None
    assert found.context == {"rows": 2, "title": "Runs"}
    assert found.as_of > LONG_AGO


def test_a_live_part_is_remembered_as_it_is_shown() -> None:
    """The stream of a page renders by the function that takes over what the part is made of."""
    memory = PageMemory()
    memory.keep(asked("/hosts"), shown("hosts"))
    request = asked("/live", "view=hosts&after=9.0")
    request.scope["app"] = SimpleNamespace(state=SimpleNamespace(pages=memory))
    live_part(request, "parts/hosts_badge.html", hosts=("team",))
    found = memory.of(asked("/hosts"))
    assert found is not None
    assert found.context == {"hosts": ("team",)}


def test_the_memory_is_bounded_and_forgets_what_nobody_has_read_for_longest() -> None:
    """Pages are dropped, the longest unread first, once their sum exceeds the limit; a page above it is not kept."""
    memory = PageMemory(most=25)
    for name in ("/a", "/b"):
        memory.keep(asked(name), shown(name[1:]))
    memory.renew(asked("/live", "view=a"), {}, 10)
    memory.keep(asked("/c"), shown("c"))
    memory.keep(asked("/huge"), shown("huge", characters=26))
    kept = [name for name in ("/a", "/b", "/c", "/huge") if memory.of(asked(name)) is not None]
    assert kept == ["/a", "/c"]
    memory.renew(asked("/live", "view=b"), {"too": "late"}, 10)
    memory.keep(asked("/d"), shown("d", characters=25))
    assert memory.of(asked("/d")) is not None
    assert memory.of(asked("/c")) is None


def test_a_page_that_grows_by_its_stream_takes_the_room_of_what_it_has_become() -> None:
    """The page of a run begins small; its tries make it large, and others are forgotten for it."""
    memory = PageMemory(most=25)
    for name in ("/a", "/b"):
        memory.keep(asked(name), shown(name[1:]))
    memory.renew(asked("/live", "view=a"), {"tries": 3}, 20)
    assert memory.of(asked("/b")) is None
    found = memory.of(asked("/a"))
    assert found is not None
    assert found.context == {"tries": 3}
    memory.renew(asked("/live", "view=a"), {"tries": 9}, 26)
    assert memory.of(asked("/a")) is None


def test_the_address_of_a_stream_names_its_page() -> None:
    """Its own cursor and time are not part of the page."""
    assert stream_of(asked("/live", "view=run&run_id=run_1&level=30&after=7.3&once=1&as_of=9")) == (
        "view=run&run_id=run_1&level=30"
    )


def test_the_stream_of_a_page_is_about_what_its_path_names() -> None:
    """A link with another run in its query would turn the page of one run into that of another."""
    request = asked("/runs/run_1", "run_id=run_2&level=30&view=jobs")
    request.scope["path_params"] = {"run_id": "run_1"}
    assert stream_address(request, "run") == "view=run&run_id=run_1&level=30"


def test_the_pages_of_a_principal_are_forgotten_together() -> None:
    """Those of others stay, and so does the room that they take."""
    memory, bob = PageMemory(most=25), replace(ANN, token="nft_bob")
    for path in ("/runs", "/"):
        memory.keep(asked(path, session=bob), shown())
    memory.forget("nft_bob")
    assert memory.of(asked("/runs", session=bob)) is None
    assert memory.of(asked("/", session=bob)) is None
    for path in ("/runs", "/"):
        memory.keep(asked(path), shown())
    memory.forget("nft_bob")
    assert memory.of(asked("/runs")) is not None
    assert memory.of(asked("/")) is not None
