"""The outbox, its channels and the heartbeat, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alerts_rig import section

from nomaflow.client.values import EventView, LogLine
from nomaflow_alerts.channels.channel import Channel, NotSent
from nomaflow_alerts.channels.chat import ChatChannel
from nomaflow_alerts.channels.http import Web
from nomaflow_alerts.channels.threads import Threads
from nomaflow_alerts.ledger import Book, Ledger, Message
from nomaflow_alerts.messages.grouping_and_digests import Composer
from nomaflow_alerts.messages.harmless_text import Masker
from nomaflow_alerts.messages.ping_urls import ping
from nomaflow_alerts.messages.wording import ending
from nomaflow_alerts.registry import Registry
from nomaflow_alerts.rules.policies import Policies
from nomaflow_alerts.sending import Sender
from nomaflow_alerts.settings import CannotServe
from nomaflow_project.models.alerts_section import AlertsSection
from receivers import WebReceiver
from waiting import PATIENCE, eventually

ALERTS = section(
    channels={"ops": {"url": "json://x"}, "other": {"url": "json://x"}},
    retry_seconds=0.05, give_up_hours=0.0002, channel_seconds=1,
)  # fmt: skip


class Scripted:
    """A channel that does as it is told."""

    def __init__(self, answer: Callable[[], str] = lambda: "", *, hangs: bool = False) -> None:
        self.answer, self.hangs = answer, hangs
        self.ids: list[str] = []

    async def send(self, message: Message) -> None:
        """Take a message, or not."""
        self.ids.append(message.id)
        if self.hangs:
            await asyncio.Event().wait()
        error = self.answer()
        if error:
            raise NotSent(error)


def message(channel: str, number: str = "m1", now: float = 0.0) -> Message:
    """Return a message."""
    return Message(id=number, channel=channel, kind="opened", subject="s", body="b", created_at=now, next_at=now)


def _kept(book: Book, number: str) -> Message:
    return next(each for each in book.outbox.listed() if each.id == number)


class Post:
    """An outbox with its sender."""

    task: asyncio.Task[None]

    def __init__(self, alerts: AlertsSection, channels: dict[str, Channel], path: Path | None) -> None:
        self.ledger = Ledger(path)
        self.sender = Sender(
            ledger=self.ledger, alerts=alerts, policies=Policies(alerts), channel=channels.__getitem__,
            masker=Masker(["topsecret"]), told=lambda: None,
        )  # fmt: skip

    async def add(self, *messages: Message) -> None:
        """Have messages sent, made now."""

        def put(book: Any) -> None:
            for each in messages:
                book.outbox.add(replace(each, created_at=book.now, next_at=book.now))

        await self.ledger.run(put)
        self.sender.wake()

    async def until(self, question: Callable[[Any], Any]) -> Any:
        """Wait until a question about the file has a true answer, and return that."""
        return await eventually(lambda: self.ledger.run(question))


@contextlib.asynccontextmanager
async def posting(
    channels: dict[str, Channel], alerts: AlertsSection = ALERTS, *, path: Path | None = None
) -> AsyncIterator[Post]:
    """Give an outbox whose sender runs.

    :param path: its file; None for one in memory
    """
    post = Post(alerts, channels, path)
    await post.ledger.open()
    post.task = asyncio.create_task(post.sender.run())
    try:
        yield post
    finally:
        post.task.cancel()
        await asyncio.gather(post.task, return_exceptions=True)
        await post.ledger.close()


async def test_a_refused_message_is_tried_again_with_its_id() -> None:
    """Until the channel takes it; then it is sent, once."""
    answers = iter(["no", "no", ""])
    channel = Scripted(lambda: next(answers))
    patient = section(channels={"ops": {"url": "json://x"}}, retry_seconds=0.05)
    async with posting({"ops": channel}, patient) as post:
        await post.add(message("ops"))
        await post.until(lambda book: _kept(book, "m1").state == "sent")
    assert channel.ids == ["m1"] * 3


async def test_a_channel_that_hangs_holds_up_no_other() -> None:
    """Each has a task of its own, and the one that hangs a time limit."""
    patient = section(channels={"ops": {"url": "json://x"}, "other": {"url": "json://x"}}, channel_seconds=600)
    async with posting({"ops": Scripted(hangs=True), "other": Scripted()}, patient) as post:
        await post.add(message("ops"), message("other", "m2"))
        await post.until(lambda book: _kept(book, "m2").state == "sent")
        assert await post.ledger.run(lambda book: _kept(book, "m1").tries) == 0


@pytest.mark.parametrize("kind", ["opened", "test"])
async def test_a_message_that_is_given_up_is_an_incident_of_the_others(kind: str) -> None:
    """With the reason, without secrets; it is over with the next message that is taken, which may be a test."""
    answers = {"error": "bad topsecret"}
    async with posting({"ops": Scripted(lambda: answers["error"]), "other": Scripted()}) as post:
        await post.add(message("ops"))
        [incident] = await post.until(lambda book: book.open_incidents("undeliverable"))
        assert (incident.channels, incident.why) == (("other",), "bad ***; given up: s")
        assert await post.ledger.run(lambda book: book.outbox.undeliverable("ops"))
        answers["error"] = ""
        await post.add(replace(message("ops", "m2"), kind=kind))
        await post.until(lambda book: not book.open_incidents())
        assert not await post.ledger.run(lambda book: book.outbox.undeliverable("ops"))


async def test_what_goes_to_one_address_is_the_channel_s() -> None:
    """The channel counts as broken in `alerts open` and `doctor`, and for the heartbeat."""
    answers = {"error": "no such user"}
    async with posting({"mail:ann@x": Scripted(lambda: answers["error"])}) as post:
        await post.add(message("mail:ann@x"))
        await post.until(lambda book: book.outbox.undeliverable("mail"))
        assert await post.ledger.run(lambda book: book.outbox.last_done("mail", sent=False).error) == "no such user"
        answers["error"] = ""
        await post.add(message("mail:ann@x", "m2"))
        await post.until(lambda book: book.outbox.last_done("mail", sent=True))
        assert await post.ledger.run(lambda book: (book.outbox.pending("mail"), book.outbox.undeliverable("mail"))) == (
            0, False,
        )  # fmt: skip


async def test_an_answer_waits_for_what_it_answers() -> None:
    """The end of an incident is told after its beginning, which failed at first; another incident waits for neither."""
    down, channel = ["opened"], Scripted()
    channel.answer = lambda: "down" if channel.ids[-1] in down else ""
    patient = section(channels={"ops": {"url": "json://x"}}, retry_seconds=0.05)
    async with posting({"ops": channel}, patient) as post:
        opened, closed = (replace(message("ops", kind), kind=kind, incident_ids=(1,)) for kind in ("opened", "closed"))
        await post.add(opened, closed, message("ops", "of another"))
        await post.until(lambda book: _kept(book, "of another").state == "sent")
        assert "closed" not in channel.ids
        down.clear()
        await post.until(lambda book: _kept(book, "closed").state == "sent")
        assert channel.ids[-2:] == ["opened", "closed"]


async def test_pings_of_a_check_are_sent_in_order() -> None:
    """Those of a short run are made at one moment, and a start that came after the end would open the check again."""
    channel, events = Scripted(), [EventView(seq=1, at=None, kind="run", job_id="nightly")] * 12
    checks = [f"https://hc.example/{number}" for number in range(6)]
    made = [ping(state, check, events[0], now=0.0) for state in ("run", "complete") for check in checks]
    failing = {made[0].id}
    channel.answer = lambda: "down" if channel.ids[-1] in failing and not failing.discard(channel.ids[-1]) else ""
    patient = section(channels={"ops": {"url": "json://x"}}, retry_seconds=0.05)
    async with posting({"ping:hc.example": channel}, patient) as post:

        def put(book: Any) -> None:
            for each in made:
                book.outbox.add_ping(replace(each, created_at=book.now, next_at=book.now))

        await post.ledger.run(put)
        post.sender.wake()
        await post.until(lambda book: not book.outbox.pending("ping:hc.example"))
    assert [name for name in channel.ids if name != made[0].id and name != made[6].id] == [
        each.id for each in made if each not in (made[0], made[6])
    ]
    start, end = made[0].id, made[6].id
    assert [name for name in channel.ids if name in (start, end)] == [start, start, end]


async def test_what_cannot_be_noted_is_not_sent(tmp_path: Path) -> None:
    """On a full disk it would be sent again with every start of the process, once a second; it is sent later."""
    channel, path = Scripted(), tmp_path / "alerts.db"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for _ in range(3):
        async with posting({"ops": channel}, path=path) as post:
            await post.ledger.run(lambda book: book.outbox.add(message("ops", f"m{len(book.outbox.listed())}")))
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("alerts.db-wal").stat().st_size, before[1]))
            try:
                post.sender.wake()
                with pytest.raises(CannotServe, match="cannot be used: disk I/O error; check the disk") as full:
                    await post.task
                assert full.value.exit_code == 1  # whoever supervises it starts it again
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert channel.ids == []
    async with posting({"ops": channel}, path=path) as post:
        await post.until(lambda book: not book.outbox.pending("ops"))
    assert channel.ids == ["m0", "m1", "m2"]


async def test_a_channel_that_is_gone_is_said() -> None:
    """Its messages are not lost without a word."""
    async with posting({"other": Scripted()}) as post:
        await post.add(message("ops"))
        found = await post.until(lambda book: _kept(book, "m1").error)
    assert found == "the settings no longer have the channel"


async def test_what_was_open_about_a_channel_that_was_removed_is_over(tmp_path: Path) -> None:
    """Nobody could mend it, and each day there would be a reminder; a message that is left for it is told once."""
    path = tmp_path / "alerts.db"
    async with posting({"ops": Scripted(lambda: "broken"), "other": Scripted()}, path=path) as post:
        await post.add(message("ops"))
        [incident] = await post.until(lambda book: book.open_incidents("undeliverable"))
        await post.ledger.run(lambda book: book.mark_told([incident]))
    without = section(channels={"other": {"url": "json://x"}}, retry_seconds=0.05, give_up_hours=0.0002)
    async with posting({"other": Scripted()}, without, path=path) as post:
        await post.until(lambda book: not book.open_incidents())
        over = await post.ledger.run(lambda book: book.incident(incident.id))
        assert ending(over).startswith("the settings no longer have it, after ")
        await post.add(message("ops", "m2"))
        await post.until(lambda book: _kept(book, "m2").state == "undeliverable")
        told = await post.ledger.run(lambda book: book.incident(incident.id + 1))
        assert (told.is_open, told.why) == (False, "the settings no longer have the channel; given up: s")


@pytest.fixture
def web_receiver() -> Any:
    """Give a web server."""
    with WebReceiver() as web:
        yield web


@pytest.mark.parametrize("status", [302, 307])
async def test_a_redirect_is_not_followed(web_receiver: WebReceiver, status: int) -> None:
    """The signature is for the receiver that was named."""
    web_receiver.answer = lambda path, _: status if path == "/hook" else 200
    with pytest.raises(NotSent, match="redirect"):
        await Web().post(f"{web_receiver.url}/hook", b"{}", {}, seconds=10)
    assert [post.path for post in web_receiver.posts] == ["/hook"]


@pytest.mark.parametrize(("status", "error"), [(500, "it answered 500"), (0, "cannot be reached")])
async def test_what_a_receiver_does_wrong(web_receiver: WebReceiver, status: int, error: str) -> None:
    """It is said in words, without the URL."""
    web_receiver.answer = lambda _path, _body: status
    with pytest.raises(NotSent, match=error) as raised:
        await Web().post(f"{web_receiver.url}/hook", b"{}", {}, seconds=10)
    assert web_receiver.url not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:1/topsecret", "it cannot be reached: Connection refused"),
        ("file:///etc/hostname?topsecret", "it cannot be reached: str"),
        ("http://x/top secret", "it cannot be reached: InvalidURL"),
        ("topsecret", "it cannot be reached: ValueError"),
    ],
)
async def test_urls_that_lead_nowhere(url: str, error: str) -> None:
    """Only web servers are asked, and no error quotes the URL."""
    with pytest.raises(NotSent) as raised:
        await Web().post(url, b"{}", {}, seconds=10)
    assert str(raised.value) == error


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of apprise's own imports
async def test_apprise_says_why_and_no_url(web_receiver: WebReceiver) -> None:
    """Its log has the reason; a URL that it does not know is told too."""
    web_receiver.answer = lambda _path, _body: 503
    url = web_receiver.url.replace("http", "json") + "/topsecret"
    with pytest.raises(NotSent, match="503"):
        await ChatChannel(url, seconds=20, masker=Masker(["topsecret"])).send(message("ops"))
    with pytest.raises(NotSent, match="does not know"):
        await ChatChannel("nonsense", seconds=20, masker=Masker([])).send(message("ops"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_chat_that_redirects_has_not_taken_the_message(web_receiver: WebReceiver) -> None:
    """An empty request to the place that it names would be answered with 200."""
    web_receiver.answer = lambda path, _: 302 if path == "/chat" else 200
    url = web_receiver.url.replace("http", "json") + "/chat"
    with pytest.raises(NotSent, match="302"):
        await ChatChannel(url, seconds=20, masker=Masker([])).send(message("ops"))


async def test_calls_that_never_return_are_bounded() -> None:
    """Five of them are enough; the next is refused, until one returns."""
    threads, gate = Threads("test"), threading.Event()
    for _ in range(5):
        with pytest.raises(NotSent, match="no answer within"):
            await threads.run(lambda: bool(gate.wait()) and None, seconds=0.02)
    with pytest.raises(NotSent, match="still hang"):
        await threads.run(lambda: None, seconds=1)
    gate.set()
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(NotSent):
                await threads.run(lambda: None, seconds=PATIENCE)
                break
            await asyncio.sleep(0.02)


def test_a_call_that_returns_after_the_end_of_the_loop_is_no_error() -> None:
    """The process stops while a channel hangs: nobody waits for the answer, and no traceback is printed."""
    threads, gate = Threads("late"), threading.Event()

    async def give_up() -> None:
        with pytest.raises(NotSent, match="no answer within"):
            await threads.run(lambda: bool(gate.wait()) and None, seconds=0.02)

    asyncio.run(give_up())
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "late":
            thread.join()


async def test_a_call_that_returns_as_it_is_cancelled_is_cancelled() -> None:
    """Else a process that stops at this moment would go on for ever: the heartbeat's loop, a channel's."""

    class Late(Threads):
        def _ended(self, done: Any, error: BaseException | None) -> None:
            super()._ended(done, error)
            task.cancel()

    task = asyncio.create_task(Late("test").run(lambda: None, seconds=PATIENCE))
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("template", "posted"),
    [('{"said": {{ text | tojson }}}', {"said": "b"}), ("{{ text.nothing.at.all }}", {"text": "b\n"})],
)
async def test_a_webhook_has_a_body_of_ones_own(
    web_receiver: WebReceiver, template: str, posted: dict[str, str]
) -> None:
    """The text of the template is the whole body; if it fails, the built-in body is sent and says so."""
    hook = {"type": "webhook", "url": f"{web_receiver.url}/hook", "template": "own"}
    alerts = section(channels={"hook": hook}, templates={"own": template})
    registry = Registry(alerts, composer=Composer(alerts), details=None)  # type: ignore[arg-type]
    await registry.channel("hook").send(message("hook"))
    [post] = web_receiver.posts
    assert all(post.json[key].startswith(text) for key, text in posted.items())
    assert ("said" in post.json) == ("said" in posted)


async def test_a_ping_of_a_failure_has_the_end_of_the_log(web_receiver: WebReceiver) -> None:
    """The error and the last lines, masked; that of a start has nothing."""
    line = LogLine(seq=1, at_us=0, level=40, logger="x", step="one", attempt=1, message="no topsecret-of-ours")

    class Details:
        async def last_lines(self, run_id: str) -> tuple[LogLine, ...]:
            return (line,) if run_id == "run_1" else ()

    alerts, details = section(channels={"ops": {"url": "json://x/topsecret-of-ours"}}), Details()
    registry = Registry(alerts, composer=Composer(alerts), details=details)  # type: ignore[arg-type]
    for state in ("run", "fail"):
        data = {"error": "broke"} if state == "fail" else {}
        event = EventView(seq=1, at=None, kind="run", run_id="run_1", job_id="nightly", data=data)
        told = ping(state, f"{web_receiver.url}/check", event, now=0.0)
        await registry.channel(told.channel).send(told)
    started, failed = web_receiver.posts
    assert (started.path, started.body) == ("/check/start", b"")
    assert (failed.path, failed.body) == ("/check/fail", b"broke\n  00:00:00 ERROR x: no ***")
