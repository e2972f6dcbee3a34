"""The stream of one tab: how often it speaks, where it goes on, and what does not end it."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from nomaflow.client import KernelUnreachable
from nomaflow.client.values import EventView
from nomaflow_console.access.secret import ConsoleSecret
from nomaflow_console.access.sessions import Session, Sessions
from nomaflow_console.kernel.hub import Subscription
from nomaflow_console.kernel.status import KernelStatus
from nomaflow_console.live import LiveView, ServerEvent, Streams
from nomaflow_console.live.encoding import encode, parts_html, read_cursor, read_moment


class View:
    """A live view that counts."""

    aging_seconds = math.inf
    extra: Callable[[Request], AsyncIterator[ServerEvent]] | None = None

    def __init__(self) -> None:
        self.state = 0
        self.seconds = 0.0
        self.errors: list[Exception] = []

    async def parts(self, request: Request) -> Mapping[str, str]:
        """Return the newest state, or raise the next error."""
        if self.errors:
            raise self.errors.pop(0)
        await asyncio.sleep(self.seconds)
        return {"count": f"<b>{self.state}</b>"}


class Ageing(View):
    """A view that looks different after a while."""

    aging_seconds = 0.3


class Talker(View):
    """A view with messages of its own, which begin after the page's last line."""

    def __init__(self, *, most: int = 3) -> None:
        super().__init__()
        self.most = most
        self.said = 0
        self.begun: list[int] = []
        self.away = False

    async def extra(self, request: Request) -> AsyncIterator[ServerEvent]:
        """Yield lines; once, the kernel goes away after the second."""
        self.begun.append(request.state.cursor.log_seq)
        for line in range(request.state.cursor.log_seq + 1, self.most + 1):
            self.said += 1
            yield ServerEvent(event="log", data=f"line {line}", log_seq=line)
            if line == 2 and not self.away:
                self.away = True
                raise KernelUnreachable("away")


class Principal:
    """Stands for a kernel: events are given to its one viewer."""

    def __init__(self) -> None:
        self.viewer: Subscription | None = None
        self.hub = self

    @contextmanager
    def subscribe(
        self, after: int, concerns: Callable[[EventView], bool], wake: Callable[[], None]
    ) -> Iterator[Subscription]:
        """Keep the viewer."""
        self.viewer = Subscription(after, concerns, wake)
        yield self.viewer
        self.viewer = None

    async def status(self) -> KernelStatus:
        """Return a status."""
        return KernelStatus(version="1")


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    """The sessions of a console."""
    return Sessions(
        secret=ConsoleSecret(value=b"x" * 32), ended_file=tmp_path / "ended", secure=False, takes_tokens=True
    )


class Tab:
    """One tab with its stream."""

    def __init__(self, sessions: Sessions, view: View, query: str = "", last: str = "") -> None:
        self.principal: Any = Principal()
        self.session: Session = sessions.start(name="ann", principal="owner")
        live = LiveView(
            concerns=lambda *_: True, parts=view.parts, fresh_seconds=lambda _: view.aging_seconds, extra=view.extra
        )
        self.streams = Streams(views={"v": live}, sessions=sessions)
        headers = [(b"last-event-id", last.encode())] if last else []
        scope = {
            "type": "http", "method": "GET", "path": "/live", "headers": headers,
            "query_string": f"view=v&{query}".encode(), "state": {"session": self.session},
            "server": ("127.0.0.1", 80), "scheme": "http",
        }  # fmt: skip
        response = self.streams.open(Request(scope), self.principal)
        assert isinstance(response, StreamingResponse)
        self.body: Any = response.body_iterator

    def happen(self, seq: int) -> None:
        """Have an event happen."""
        assert self.principal.viewer is not None
        self.principal.viewer.event(EventView(seq=seq, at=None, kind="run.state"))

    async def next(self) -> str:
        """Return the next message that is no heartbeat."""
        async with asyncio.timeout(60):
            while True:
                text = (await anext(self.body)).decode()
                if not text.startswith("event: heartbeat\n"):
                    return str(text)

    async def rest(self) -> list[str]:
        """Return the messages until the end that are no heartbeats."""
        texts = [each.decode() async for each in self.body]
        return [text for text in texts if not text.startswith("event: heartbeat\n")]


async def test_a_burst_of_events_is_at_most_four_updates_a_second_and_the_newest_wins(sessions: Sessions) -> None:
    """A thousand events in half a second are a few messages; the last one has the last state."""
    view = View()
    tab = Tab(sessions, view, "after=1")
    async with aclosing(tab.body):
        await tab.next()
        began, messages = time.monotonic(), [""]

        async def read() -> None:
            while "<b>1001</b>" not in messages[-1]:
                messages.append(await tab.next())

        reader = asyncio.create_task(read())
        for seq in range(2, 1_002):
            view.state = seq
            tab.happen(seq)
            if seq % 20 == 0:
                await asyncio.sleep(0.01)
        await reader
        assert len(messages) - 1 <= 4 * (time.monotonic() - began) + 1
        assert messages[-1].startswith("id: 1001.0\n")


async def test_a_page_that_ages_is_made_anew_though_nothing_happens(sessions: Sessions) -> None:
    """Waits grow, and countdowns end, without an event."""
    view = Ageing()
    tab = Tab(sessions, view, "after=1")
    async with aclosing(tab.body):
        for state in (1, 2):
            view.state = state
            while f"<b>{state}</b>" not in await tab.next():
                pass


async def test_a_page_is_made_anew_at_midnight(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time of the evening is one of yesterday then, whether or not something happens."""
    monkeypatch.setattr("nomaflow_console.live.stream.seconds_to_midnight", lambda _: 0.3)
    view = View()
    tab = Tab(sessions, view, "after=1")
    async with aclosing(tab.body):
        view.state = 7
        while "<b>7</b>" not in await tab.next():
            pass


async def test_parts_that_take_long_are_made_less_often(sessions: Sessions) -> None:
    """A page that takes half a second is made for a quarter of the time at most, however much happens."""
    view = View()
    view.seconds = 0.5
    tab = Tab(sessions, view, "after=1")
    async with aclosing(tab.body):
        await tab.next()
        tab.happen(2)
        await tab.next()
        began = time.monotonic()
        tab.happen(3)
        await tab.next()
        assert time.monotonic() - began >= 3 * view.seconds


async def test_a_broken_stream_goes_on_where_the_browser_was(sessions: Sessions) -> None:
    """The browser's last id counts, not the address that the page was made with; it has event and line."""
    talker = Talker(most=9)
    talker.away = True
    tab = Tab(sessions, talker, "after=5.2", last="7.6")
    async with aclosing(tab.body):
        texts = [await tab.next() for _ in range(4)]
        logs = [text for text in texts if "event: log" in text]
        assert talker.begun == [6]
        assert [re.findall(r"^id: (.*)$", text, re.M)[0] for text in logs] == ["7.7", "7.8", "7.9"]


async def test_a_pages_own_messages_go_on_after_the_kernel_was_away_without_a_line_twice(sessions: Sessions) -> None:
    """The source is asked again from the last line that it gave."""
    talker = Talker(most=4)
    tab = Tab(sessions, talker)
    async with aclosing(tab.body):
        lines: list[str] = []
        while len(lines) < 4:
            lines += re.findall(r"data: (line \d)", await tab.next())
        assert lines == ["line 1", "line 2", "line 3", "line 4"]
        assert talker.begun == [0, 2]


async def test_a_slow_viewer_makes_the_source_wait(sessions: Sessions) -> None:
    """Memory is bounded by what waits for one viewer."""
    talker = Talker(most=10_000)
    talker.away = True
    tab = Tab(sessions, talker)
    async with aclosing(tab.body):
        await tab.next()
        await asyncio.sleep(0.2)
        assert talker.said <= 4, "a message has up to 200 lines of 4,000 characters"


@pytest.mark.parametrize("error", [KernelUnreachable("away"), ValueError("a mistake of ours")], ids=["away", "mistake"])
async def test_what_goes_wrong_in_a_part_does_not_end_the_stream(
    sessions: Sessions, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page hears at once that the console is there; the next event, or the kernel's return, brings the parts."""
    monkeypatch.setattr("nomaflow_console.live.stream._HEARTBEAT_SECONDS", 600.0)
    view = View()
    tab = Tab(sessions, view, "after=1")
    async with aclosing(tab.body):
        await tab.next()
        view.errors.append(error)
        tab.happen(2)
        async with asyncio.timeout(60):
            assert (await anext(tab.body)).startswith(b"event: heartbeat\n")
        if isinstance(error, KernelUnreachable):
            tab.principal.viewer.line(KernelStatus(version="2"))
        else:
            tab.happen(3)
        assert "<b>0</b>" in await tab.next()


async def test_parts_are_not_asked_for_all_the_time_while_nobody_answers(sessions: Sessions) -> None:
    """A tab asks a kernel that is away again after a second, not as often as there may be updates."""
    view = View()
    tab = Tab(sessions, view, "after=1")
    async with aclosing(tab.body):
        await tab.next()
        view.errors += [KernelUnreachable("away")] * 100
        tab.happen(2)
        reading = asyncio.create_task(tab.next())
        await asyncio.sleep(1.8)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert len(view.errors) >= 98


async def test_a_logout_in_another_tab_ends_the_stream_and_says_so(sessions: Sessions) -> None:
    """The page is told that its session is over."""
    tab = Tab(sessions, View(), "after=1")
    async with aclosing(tab.body):
        await tab.next()
        sessions.end(tab.session)
        tab.happen(2)
        assert "event: session-over" in await tab.next()
        with pytest.raises(StopAsyncIteration):
            await tab.next()


async def test_a_stop_ends_the_stream(sessions: Sessions) -> None:
    """A console that stops ends its streams itself; a new one is told to come back."""
    tab = Tab(sessions, View())
    await tab.next()
    tab.streams.stop()
    with pytest.raises(StopAsyncIteration):
        await tab.next()
    assert not tab.streams._open


async def test_a_stop_ends_a_stream_that_is_about_to_speak(sessions: Sessions) -> None:
    """Twenty pages that ask the kernel at that moment must not hold up the end of the console."""
    view = View()
    view.seconds = 600.0
    tab = Tab(sessions, view)
    async with aclosing(tab.body), asyncio.timeout(60):
        await anext(tab.body)
        tab.happen(1)
        waiting = asyncio.ensure_future(tab.rest())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        tab.streams.stop()
        assert await waiting == []


async def test_asking_once_gets_one_message_and_an_end(sessions: Sessions) -> None:
    """A fifth tab asks now and then instead of keeping a stream."""
    tab = Tab(sessions, View(), "once=1")
    assert "kernel-line" in await tab.next()
    with pytest.raises(StopAsyncIteration):
        await tab.next()


async def test_asking_once_gets_the_pages_own_messages_too(sessions: Sessions) -> None:
    """A tab without a stream follows like the others: it gets what there is, and the next time what came since."""
    talker = Talker(most=3)
    talker.away = True
    tab = Tab(sessions, talker, "once=1&after=7.1")
    texts = [text async for text in _all(tab)]
    assert re.findall(r"id: (\S+)\nevent: log\ndata: (line \d)", "".join(texts)) == [
        ("7.2", "line 2"),
        ("7.3", "line 3"),
    ]
    assert talker.begun == [1]


async def test_asking_once_ends_while_the_kernel_is_away(sessions: Sessions) -> None:
    """The tab asks again later; nothing waits in the console for it."""
    tab = Tab(sessions, Talker(most=4), "once=1")
    async with asyncio.timeout(60):
        texts = [text async for text in _all(tab)]
    assert re.findall(r"data: (line \d)", "".join(texts)) == ["line 1", "line 2"]


async def _all(tab: Tab) -> AsyncIterator[str]:
    async for message in tab.body:
        yield message.decode()


async def test_a_remembered_page_says_its_own_time_until_it_is_read_anew(sessions: Sessions) -> None:
    """The line about the kernel has the time of the page, which may be older than the last answer of the kernel."""
    tab = Tab(sessions, View(), "after=1&as_of=1767225600")
    away = KernelStatus(version="1", as_of=datetime(2026, 2, 2, 2, 2, 2, tzinfo=UTC), away_since=datetime.now(UTC))
    async with aclosing(tab.body):
        await tab.next()
        tab.principal.viewer.line(away)
        assert "as of <time" in (told := await tab.next())
        assert 'datetime="2026-01-01T00:00:00' in told.partition("as of")[2]
        tab.happen(2)
        await tab.next()
        tab.principal.viewer.line(away)
        assert 'datetime="2026-02-02T02:02:02' in (await tab.next()).partition("as of")[2]


@pytest.mark.parametrize("text", ["", "x", "-1", "²", "9" * 12, "1.5"])
def test_a_moment_that_is_noise_is_none(text: str) -> None:
    """An address may hold anything."""
    assert read_moment(text) is None


def test_a_part_is_the_element_or_what_is_in_it() -> None:
    """HTML that begins with the element of that id replaces it; other HTML goes inside."""
    assert parts_html({"a": '<div class="x" id="a">1</div>'}).startswith(
        '<hx-partial hx-target="#a" hx-swap="outerMorph">'
    )
    assert parts_html({"a": '<div id="b">1</div>'}).startswith('<hx-partial hx-target="#a" hx-swap="innerMorph">')


@pytest.mark.parametrize("data", ["a\nb", "a\r\nb", "a\rb"])
def test_no_text_can_end_a_message_early(data: str) -> None:
    """Every line break within the data begins a new data line, so that no text forges an id or an event."""
    assert encode(data, id="1.2", event="log") == b"id: 1.2\nevent: log\ndata: a\ndata: b\n\n"


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        ("7.3", (7, 3)),
        ("7", (7, 0)),
        ("", (0, 0)),
        ("x.y", (0, 0)),
        ("-1.2", (0, 2)),
        ("²", (0, 0)),
        ("9" * 40, (0, 0)),
    ],
)
def test_a_cursor_that_is_noise_is_the_beginning(text: str, cursor: tuple[int, int]) -> None:
    """A cursor that a browser made up does no harm."""
    assert read_cursor(text) == cursor
