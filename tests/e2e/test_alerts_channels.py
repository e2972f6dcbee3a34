"""Channels on real receivers: they hang, refuse, close, redirect; a mail server; tests; hostile text; a mute."""

from __future__ import annotations

import asyncio
import email
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from alerts_system import SECRET, AlertsSystem, open_alerts
from standardwebhooks import Webhook

from nomaflow.client import InvalidRequest
from nomaflow.client.alerts import AlertsClient
from real_system import eventually
from receivers import mail_server

JOBS = """
[[jobs]]
id = "failing"
steps = [{ name = "one", callable = "team.code:shout" }]
"""
CODE = """
import logging
import os

def shout(*, ok: bool = False):
    if ok:
        return 1
    log = logging.getLogger("team")
    log.error("<!channel> @everyone <b>bold</b> \\x1b[31mred %s", os.environ.get("SHOWN", ""))
    log.error("x" * 1_000_000)
    raise RuntimeError("<!here> it broke")
"""
CHANNELS = """
channels.slow = {{ type = "webhook", url = "{url}/slow" }}
channels.bad = {{ type = "webhook", url = "{url}/bad" }}
channels.closing = {{ type = "webhook", url = "{url}/closing" }}
channels.moved = {{ type = "webhook", url = "{url}/moved" }}
channels.chat = {{ url = "json{chat}/chat" }}
"""


class Mails:
    """Takes mails, and keeps them."""

    def __init__(self) -> None:
        self.mails: list[Message] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep a mail."""
        assert isinstance(envelope.content, bytes)
        self.mails.append(email.message_from_bytes(envelope.content))
        return "250 OK"


@pytest.fixture
def system(tmp_path: Path) -> Iterator[AlertsSystem]:
    """Give a project without processes."""
    with open_alerts(tmp_path) as system:
        yield system


@pytest.fixture
def mails() -> Iterator[tuple[Mails, int]]:
    """Give a mail server, and its port."""
    taken = Mails()
    with mail_server(taken) as port:
        yield taken, port


def start(system: AlertsSystem) -> None:
    """Start everything."""
    system.write(JOBS, code=CODE)
    system.start_kernel()
    system.start_host()
    system.start_alerts()


def titles(system: AlertsSystem) -> set[str]:
    """Return the titles of all incidents that were told by the good channel."""
    return {each["title"] for post in system.web.taken() for each in post.json["incidents"]}


def test_a_bad_channel_holds_up_no_other(system: AlertsSystem) -> None:
    """Channels that hang, fail, close or redirect are reported, and the messages of the others are on time."""

    def answer(path: str, body: bytes) -> int:
        if path == "/slow":
            time.sleep(5)
        return {"/bad": 500, "/closing": 0, "/moved": 302}.get(path, 200)

    system.web.answer = answer
    more = CHANNELS.format(url=system.web.url, chat=system.web.url.removeprefix("http"))
    system.settings(f"give_up_hours = 0.001\n{more}")
    start(system)
    system.ask("run", "failing", "--wait", code=1)
    eventually(lambda: system.web.taken() and system.web.taken("/chat"))
    undelivered = {f"channel {name} takes no messages" for name in ("bad", "closing", "moved")}
    eventually(lambda: undelivered <= titles(system), seconds=60)
    assert not system.web.taken("/elsewhere")

    def messages_of_failure() -> dict[str, Any]:
        return {each["channel"]: each for each in system.messages() if each["subject"] == "failing failed"}

    eventually(lambda: messages_of_failure()["slow"]["error"] == "no answer within 2 s")
    messages = messages_of_failure()
    assert messages["bad"]["error"] == "it answered 500"
    assert "redirect" in messages["moved"]["error"]
    bad = [post.headers["webhook-id"] for post in system.web.posts if post.path == "/bad"]
    assert len(set(bad)) < len(bad)  # a repeat has the same id


def test_a_hostile_log_is_harmless_everywhere(system: AlertsSystem, mails: tuple[Mails, int]) -> None:
    """Mentions, markup, escape sequences, a megabyte and the channel's own secret: cut, escaped, masked."""
    taken, port = mails
    channel = f'channels.mail = {{ type = "email", host = "127.0.0.1", port = {port}, security = "none", '
    channel += 'from = "jobs@example.org", to = ["ops@example.org"] }'
    system.settings(channel)
    (system.project / ".env").write_text(f"SHOWN={SECRET}\n")
    text = (system.project / "nomaflow.toml").read_text()
    (system.project / "nomaflow.toml").write_text(text.replace('name = "team"', 'name = "team"\nenv_file = ".env"'))
    start(system)
    run = system.ask("run", "failing", "--wait", code=1)["run_id"]
    [told] = system.received(1)
    eventually(lambda: taken.mails)
    mail = taken.mails[0].get_payload(decode=True).decode()
    for text in (json.dumps(told), mail):
        for hostile in ("<!channel", "<!here", "@everyone", "\x1b", "<b>", SECRET):
            assert hostile not in text, hostile
        assert "it broke" in text
    assert len(told["text"].encode()) <= 8192
    assert run in mail
    system.ask("run", "failing", "-p", "ok=true", "--wait")
    eventually(lambda: len(taken.mails) == 2)
    first, second = taken.mails
    assert second["In-Reply-To"] == first["Message-ID"]
    assert second["Subject"] == f"Re: {first['Subject']}"
    assert (first["Auto-Submitted"], first["To"]) == ("auto-generated", "ops@example.org")


def test_a_test_goes_the_real_way(system: AlertsSystem, mails: tuple[Mails, int]) -> None:
    """A signed webhook and a mail, each answer printed; exit code 1 if one fails, with the reason."""
    taken, port = mails
    mail = (
        'channels.{} = {{ type = "email", host = "127.0.0.1", port = {}, security = "{}", from = "a@x", to = ["b@x"] }}'
    )
    system.settings("\n".join([mail.format("mail", port, "none"), mail.format("strict", port, "starttls")]))
    start(system)
    answers = {each["channel"]: each for each in system.ask("alerts", "test", code=1)["results"]}
    assert (answers["hook"]["sent"], answers["mail"]["sent"], answers["strict"]["sent"]) == (True, True, False)
    assert "STARTTLS" in answers["strict"]["error"]
    post = system.web.taken()[0]
    body = Webhook(SECRET).verify(post.body, dict(post.headers))
    assert (body["type"], body["id"]) == ("test", answers["hook"]["message_id"])
    assert body["subject"].startswith("[test]")
    assert taken.mails[0]["Subject"].startswith("[test]")
    of_job = system.ask("alerts", "test", "hook", "--job", "failing", "--condition", "late")["results"]
    assert [each["channel"] for each in of_job] == ["hook"]
    assert system.web.taken()[-1].json["subject"] == "[test] failing is late"
    wrong = system.cli("alerts", "test", "nobody", code=2)
    assert "there is no channel 'nobody'" in wrong.err
    mistyped = system.cli("alerts", "test", "--job", "failing", "--condition", "lat", code=2).err
    assert "no condition 'lat'; did you mean 'late'?" in mistyped
    assert "name the job too" in system.cli("alerts", "test", "--condition", "late", code=2).err
    assert "no job has the id 'falling'" in system.cli("alerts", "test", "--job", "falling", code=2).err
    assert "there is no channel 'nobody'" in system.cli("alerts", "messages", "--channel", "nobody", code=2).err
    assert "the states are pending, sent, " in system.cli("alerts", "messages", "--state", "send", code=2).err
    assert system.cli("alerts", "open", "--job", "failing").out.startswith("✔ nothing is open for job 'failing'")
    assert "no job has the id 'falling'" in system.cli("alerts", "open", "--job", "falling", code=2).err
    assert system.incidents() == []


def test_a_mute_keeps_back_and_is_seen(system: AlertsSystem) -> None:
    """With author, reason and end; its end tells what is open."""
    system.settings()
    start(system)
    assert "needs a reason" in system.cli("alerts", "mute", "failing", code=2).err
    mute = system.ask("alerts", "mute", "failing", "--why", "moving", "--for", "1h")
    assert (mute["job_id"], mute["why"]) == ("failing", "moving")
    system.ask("run", "failing", "--wait", code=1)
    eventually(system.incidents)
    [incident] = system.ask("alerts", "open")["incidents"]
    assert (incident["mute"]["why"], incident["told_at"]) == ("moving", None)
    assert "muted: job 'failing'" in system.cli("alerts", "open").out
    assert system.ask("alerts", "unmute", "failing")["was_muted"]
    assert system.received(1)[0]["subject"] == "failing failed"
    assert not system.ask("alerts", "unmute", "failing")["was_muted"]
    assert "did you mean 'failing'" in system.cli("alerts", "unmute", "faling", code=2).err


def test_calls_that_would_do_something_else_are_refused(system: AlertsSystem) -> None:
    """An empty name may be a variable that is not set: nothing is muted or unmuted. And no list is cut unasked."""
    system.settings()
    start(system)

    async def ask() -> None:
        end = datetime.now(UTC) + timedelta(hours=1)
        async with AlertsClient(system.project) as alerts:
            await alerts.mute(until=end, by="ann", why="moving")
            with pytest.raises(InvalidRequest, match="job_id is empty, expected a name"):
                await alerts.unmute(job_id="")
            with pytest.raises(InvalidRequest, match="host is empty, expected a name"):
                await alerts.mute(until=end, by="ann", why="moving", host="")
            (mute,) = (await alerts.get_alerts()).mutes
            assert (mute.job_id, mute.host) == ("", "")
            for ask in (alerts.list_incidents, alerts.list_messages):
                with pytest.raises(InvalidRequest, match="limit is 1001, expected at most 1000"):
                    await ask(limit=1001)
                await ask(limit=1000)

    asyncio.run(ask())


def test_a_mute_of_what_the_kernel_does_not_have_is_refused(system: AlertsSystem) -> None:
    """It would hold nothing back. While the kernel is away nobody knows, and the mute is taken."""
    system.settings()
    start(system)
    for name, told in (
        (("falling",), "no job has the id 'falling'; did you mean 'failing'?"),
        (("--host", "tema"), "no host has the name 'tema'; did you mean 'team'?"),
    ):
        assert told in " ".join(system.cli("alerts", "mute", *name, "--why", "moving", code=2).err.split())
    system.ask("alerts", "mute", "--host", "team", "--why", "moving")
    system.parts["kernel"].kill()
    system.ask("alerts", "mute", "falling", "--why", "moving")
    muted = {(each["job_id"], each["host"]) for each in system.ask("alerts", "open")["alerts"]["mutes"]}
    assert muted == {("falling", None), (None, "team")}
