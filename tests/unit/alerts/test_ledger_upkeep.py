"""The end of what the ledger keeps, and the channels that stand in for a broken one."""

from __future__ import annotations

import pytest
from alerts_rig import Rig, section

from nomaflow_alerts.ledger import Book

DAY = 86_400


def _kept(rig: Rig) -> tuple[int, int]:
    """Return how many incidents and messages there are after a clean-up."""

    def count(book: Book) -> tuple[int, int]:
        book.purge()
        incidents, messages = (book._sql(f"SELECT count(*) FROM {table}") for table in ("incident", "message"))
        return incidents.fetchone()[0], messages.fetchone()[0]

    return rig.work(count)


def test_what_is_over_is_kept_for_a_while_and_what_is_not_for_ever() -> None:
    """Closed incidents and messages that were sent go; an open incident and a message that waits stay."""
    rig = Rig()
    rig.job("other")
    rig.ends("FAILED")
    rig.wait(40)
    rig.ends("SUCCEEDED")
    rig.ends("FAILED", "other")
    [sent] = rig.wait(400)
    rig.work(lambda book: book.outbox.sent(sent))
    assert _kept(rig) == (2, 2)
    rig.now += 400 * DAY
    assert _kept(rig) == (1, 1)


@pytest.mark.parametrize(
    ("default", "severities", "broken", "told"),
    [
        (["a", "b"], {}, "a", ("b",)),
        (["a"], {}, "a", ("b", "c")),
        (["a"], {"b": ["info"]}, "a", ("c",)),
        (["a"], {"b": ["info"], "c": ["info"]}, "a", ("b", "c")),
        (["a"], {}, "b:somebody", ("a",)),
    ],
)
def test_others_are_told_of_a_broken_channel(
    default: list[str], severities: dict[str, list[str]], broken: str, told: tuple[str, ...]
) -> None:
    """The default's others, else all others; those that take the severity, if one does."""
    url = "json://127.0.0.1/"
    channels = {name: {"url": url, "severities": severities.get(name, [])} for name in "abc"}
    rig = Rig(alerts=section(channels=channels, default=default))
    assert rig.policies.recipients.without(broken, "critical") == told
