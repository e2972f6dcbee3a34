"""The outgoing messages of the file."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

from nomaflow_alerts.ledger.records import Incident, Message

_HOUR = 3600.0
_READY = (
    "state = 'pending' AND NOT EXISTS (SELECT 1 FROM json_each(message.data, '$.after') AS one"
    " JOIN message AS earlier ON earlier.id = one.value WHERE earlier.state = 'pending')"
)
"""The readiness of a message: it waits for the earlier ones about the same. No end is told before its beginning."""
_SAME = "EXISTS (SELECT 1 FROM json_each(incident_ids) AS one JOIN json_each(?) AS other ON one.value = other.value)"

LONGEST_DELAY_SECONDS = 3600
"""No try is put off for longer; one that seems to be was put off before the clock was set back, and is due."""
_DUE = f"CASE WHEN next_at > :now + {LONGEST_DELAY_SECONDS} THEN :now ELSE next_at END"
_OF_CHANNEL = "(channel = :channel OR channel GLOB :channel || ':*')"
"""Also what goes to single addresses: ``CHANNEL:ADDRESS``."""


class Outbox:
    """Messages inside a transaction."""

    def __init__(self, connection: sqlite3.Connection, *, now: float) -> None:
        self._sql = connection.execute
        self._now = now

    def add(self, message: Message) -> None:
        """Keep a message to be sent after those that wait for the channel and tell of an incident of it."""
        self._add(message, after=self._waiting(_SAME, message, json.dumps(message.incident_ids)))

    def add_ping(self, message: Message) -> None:
        """Keep a ping to be sent after those that wait for the same check.

        It takes the place of an older one of its state that the server did not take, or that waits for others, with
        its tries: while a server hangs, no more wait than a check has states. One that is just being sent stays.
        """
        check = "json_extract(data, '$.check') = ?"
        older = f"channel = ? AND state = 'pending' AND {check} AND json_extract(data, '$.state') = ?"
        values = (message.channel, message.data["check"], message.data["state"], self._now)
        for each in self._messages(f"{older} AND (tries > 0 OR next_at <= ?)", values):
            self._sql("DELETE FROM message WHERE id = ?", (each.id,))
            message = replace(message, created_at=each.created_at, next_at=each.next_at, tries=each.tries)
        self._add(message, after=self._waiting(check, message, message.data["check"]))

    def _waiting(self, where: str, message: Message, value: object) -> list[str]:
        """Return the messages that wait for the channel of another one."""
        found = f"SELECT id FROM message WHERE channel = ? AND state = 'pending' AND {where}"  # noqa: S608
        return [str(row[0]) for row in self._sql(found, (message.channel, value))]

    def _add(self, message: Message, *, after: list[str]) -> None:
        self._sql(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                message.id, message.channel, message.kind, message.subject, message.body, message.created_at,
                message.next_at, json.dumps(message.incident_ids), json.dumps({**message.data, "after": after}),
                message.tries, message.state, message.error, message.done_at,
            ),
        )  # fmt: skip

    def due(self, channel: str) -> Message | None:
        """Return the message of a channel that is to be sent now, the oldest first; None if there is none."""
        where = f"channel = :channel AND {_READY} AND {_DUE} <= :now ORDER BY rowid LIMIT 1"
        found = self._messages(where, {"channel": channel, "now": self._now})
        return found[0] if found else None

    def tries(self, message: Message, *, again_at: float) -> None:
        """Note that a message is tried now, before it is: what cannot be written must not be sent again and again.

        :param again_at: when it is tried again if this process ends before it knows more
        """
        self._sql("UPDATE message SET next_at = ? WHERE id = ?", (again_at, message.id))

    def channels_due(self) -> list[str]:
        """Return the channels with a message that is to be sent now."""
        found = f"SELECT DISTINCT channel FROM message WHERE {_READY} AND {_DUE} <= :now"  # noqa: S608
        return [str(row[0]) for row in self._sql(found, {"now": self._now})]

    def wait(self) -> float | None:
        """Return for how many seconds no other message is to be sent; None if there is none."""
        found = f"SELECT min({_DUE}) - :now FROM message WHERE {_READY} AND {_DUE} > :now"  # noqa: S608
        seconds: float | None = self._sql(found, {"now": self._now}).fetchone()[0]
        return seconds

    def sent(self, message: Message) -> None:
        """Note that the channel took a message."""
        self._sql(
            "UPDATE message SET state = 'sent', tries = tries + 1, error = '', done_at = ? WHERE id = ?",
            (self._now, message.id),
        )

    def failed(self, message: Message, error: str, *, again_at: float | None) -> None:
        """Note that the channel did not take a message.

        :param again_at: when it is tried again; None if it is given up
        """
        self._sql(
            "UPDATE message SET state = ?, tries = tries + 1, error = ?, next_at = ?, done_at = ? WHERE id = ?",
            (
                "undeliverable" if again_at is None else "pending", error, again_at or message.next_at,
                self._now, message.id,
            ),
        )  # fmt: skip

    def made_in_hour(self, channel: str) -> int:
        """Return how many messages of a channel were made in the last hour, without digests, tests and pings."""
        row = self._sql(
            "SELECT count(*) FROM message WHERE channel = ? AND created_at > ? AND created_at <= ?"
            " AND kind NOT IN ('digest', 'test', 'ping')",
            (channel, self._now - _HOUR, self._now),
        )
        return int(row.fetchone()[0])

    def last_told(self, channel: str, group: str) -> float:
        """Return when a message about a host or an incident was made last; 0 for never. ``*`` stands for a digest.

        A time to come is none: the clock was set back, and what is to be told must not wait until it is there again.
        """
        row = self._sql(
            "SELECT at FROM told WHERE channel = ? AND host = ? AND at <= ?", (channel, group, self._now)
        ).fetchone()
        return float(row[0]) if row else 0.0

    def note_told(self, channel: str, group: str) -> None:
        """Note that a message about a host or an incident was made."""
        self._sql("INSERT OR REPLACE INTO told VALUES (?, ?, ?)", (channel, group, self._now))

    def thread(self, incident: Incident, channel: str) -> tuple[str, str]:
        """Return id and subject of the first message about an incident on a channel; empty for none."""
        row = self._sql(
            "SELECT message_id, subject FROM thread WHERE incident_id = ? AND channel = ?", (incident.id, channel)
        ).fetchone()
        return (str(row[0]), str(row[1])) if row else ("", "")

    def begin_thread(self, incident: Incident, message: Message) -> None:
        """Note the first message about an incident on a channel."""
        values = (incident.id, message.channel, message.id, message.subject)
        self._sql("INSERT OR IGNORE INTO thread VALUES (?, ?, ?, ?)", values)

    def listed(self, *, channel: str = "", state: str = "", limit: int = 50) -> list[Message]:
        """Return messages, newest first."""
        where = "(? = '' OR channel = ?) AND (? = '' OR state = ?) ORDER BY created_at DESC, id DESC LIMIT ?"
        return self._messages(where, (channel, channel, state, state, limit))

    def last_done(self, channel: str, *, sent: bool) -> Message | None:
        """Return the last message that a channel took, or refused last; tests count."""
        what = "state = 'sent'" if sent else "state != 'sent' AND error != ''"
        where = f"{_OF_CHANNEL} AND {what} ORDER BY done_at DESC LIMIT 1"
        found = self._messages(where, {"channel": channel})
        return found[0] if found else None

    def pending(self, channel: str) -> int:
        """Return how many messages wait for a channel."""
        row = self._sql(
            f"SELECT count(*) FROM message WHERE {_OF_CHANNEL} AND state = 'pending'",  # noqa: S608
            {"channel": channel},
        )
        return int(row.fetchone()[0])

    def undeliverable(self, channel: str) -> bool:
        """Return whether the last message that is done was given up; a test that was taken is a message."""
        row = self._sql(
            f"SELECT state FROM message WHERE {_OF_CHANNEL}"  # noqa: S608
            " AND (state = 'sent' OR state = 'undeliverable' AND kind != 'test') ORDER BY done_at DESC LIMIT 1",
            {"channel": channel},
        ).fetchone()
        return row is not None and row[0] == "undeliverable"

    def purge(self, *, before: float) -> None:
        """Remove messages that were done before a time."""
        self._sql("DELETE FROM message WHERE state != 'pending' AND done_at < ?", (before,))
        self._sql("DELETE FROM told WHERE at < ?", (before,))

    def _messages(self, where: str, values: tuple[object, ...] | dict[str, object]) -> list[Message]:
        rows = self._sql(f"SELECT * FROM message WHERE {where}", values)  # noqa: S608  # our own conditions
        return [
            Message(
                **{name: row[name] for name in row.keys() if name not in ("incident_ids", "data")},  # noqa: SIM118
                incident_ids=tuple(json.loads(row["incident_ids"])),
                data=json.loads(row["data"]),
            )
            for row in rows
        ]
