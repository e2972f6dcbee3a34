"""The order in which a channel gets what is to be said of an incident, also after it has refused some of it."""

from __future__ import annotations

from alerts_rig import Rig

from nomaflow.client.values import EventView
from nomaflow_alerts.ledger import Book, Message
from nomaflow_alerts.messages.ping_urls import ping


def refuse(rig: Rig, message: Message) -> None:
    """Have a message refused, and tried again later."""
    rig.work(lambda book: book.outbox.failed(message, "no", again_at=book.now + 3000))


def ready(rig: Rig) -> str:
    """Return the subject of the message that is to be sent now, empty for none."""

    def due(book: Book) -> str:
        message = book.outbox.due("ops")
        return message.subject if message is not None else ""

    return rig.work(due)


def test_an_end_is_told_after_all_that_was_told_of_the_incident() -> None:
    """Else a pager would open the alert again with a reminder that comes late, and nothing would end it."""
    rig = Rig()
    rig.ends("FAILED")
    [opened] = rig.wait(40)
    rig.work(lambda book: book.outbox.sent(opened))
    [reminder] = rig.wait(88_000)
    refuse(rig, reminder)
    rig.ends("SUCCEEDED")
    [closed] = rig.wait(400)
    assert ready(rig) == ""
    rig.work(lambda book: book.outbox.sent(reminder))
    assert ready(rig) == closed.subject


def test_one_end_of_two_incidents_waits_for_both_beginnings() -> None:
    """They were told in messages of their own."""
    rig = Rig()
    rig.ends("FAILED", "one")
    [first] = rig.wait(40)
    rig.ends("FAILED", "two")
    [second] = rig.wait(400)
    for message in (first, second):
        refuse(rig, message)
    for job in ("one", "two"):
        rig.ends("SUCCEEDED", job)
    [closed] = rig.wait(400)
    assert ready(rig) == ""
    rig.work(lambda book: book.outbox.sent(second))
    assert ready(rig) == ""
    rig.work(lambda book: book.outbox.sent(first))
    assert ready(rig) == closed.subject


def test_what_waits_to_be_told_is_told_once_after_a_quiet_time() -> None:
    """A process was killed before it told of an incident, and the next one began two days later."""
    rig = Rig()
    rig.ends("FAILED")
    rig.now += 2 * 86_400
    rig.work(Book.announce_open)
    assert [each.subject for each in rig.wait(400)] == ["nightly failed"]


def test_a_check_whose_server_hangs_has_few_pings_that_wait() -> None:
    """Of many runs the newest start, success and failure wait, in order, and since the first one was made."""
    event = EventView(seq=1, at=None, kind="run", job_id="often")

    def put(book: Book) -> list[tuple[str, float]]:
        for number in range(200):
            for state in ("run", "fail" if number == 40 else "complete"):
                book.outbox.add_ping(ping(state, "https://hc.example/1", event, now=book.now + number - 200))
        sent = []
        while (each := book.outbox.due("ping:hc.example")) is not None:
            sent.append((str(each.data["state"]), book.now - each.created_at))
            book.outbox.sent(each)
        return sent

    assert Rig().work(put) == [("fail", 160), ("run", 200), ("complete", 200)]
