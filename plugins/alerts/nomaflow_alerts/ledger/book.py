"""Reads and writes of one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from nomaflow_alerts.ledger.outbox import Outbox
from nomaflow_alerts.ledger.records import Incident, Mute, Notice, Sighting
from nomaflow_alerts.ledger.watched import Watched

_GROWTH = 10
"""A count so many times that of the last message is told, without waiting for the reminder."""
_DAY = 86_400.0
_INCIDENTS_KEPT_SECONDS = 90 * _DAY
_MESSAGES_KEPT_SECONDS = 30 * _DAY


class Book:
    """The file inside a transaction.

    :ivar now: seconds since the epoch; all rules go by it
    :ivar quiet: True while old events are read: incidents open and close, and what that means is told in one message
    """

    def __init__(self, connection: sqlite3.Connection, *, now: float) -> None:
        self._sql = connection.execute
        self.now = now
        self.quiet = False
        self.outbox = Outbox(connection, now=now)
        self.watched = Watched(connection)

    # --- facts ----------------------------------------------------------------------------------------------------

    def fact(self, name: str) -> str:
        """Return a fact, empty for none."""
        row = self._sql("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def set_fact(self, name: str, value: object) -> None:
        """Keep a fact."""
        self._sql("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, str(value)))

    def drop_facts(self, prefix: str) -> None:
        """Drop the facts whose names begin with a text."""
        self._sql("DELETE FROM fact WHERE name GLOB ?", (f"{prefix}*",))

    # --- incidents ------------------------------------------------------------------------------------------------

    def sight(self, sighting: Sighting) -> None:
        """Open an incident, or count in the open one."""
        known = self.open_incident(sighting.key)
        if known is None:
            self._open(sighting)
            return
        facts = {**known.facts, **sighting.facts}
        if "since" in known.facts:
            facts["since"] = known.facts["since"]  # it began with the first occurrence
        self._sql(
            "UPDATE incident SET count = count + ?, last_at = max(last_at, ?),"
            " why = ?, run_id = ?, facts = ? WHERE id = ?",
            (
                sighting.count, sighting.at, sighting.why or known.why,
                sighting.run_id or known.run_id, _json(facts), known.id,
            ),
        )  # fmt: skip
        count = known.count + sighting.count
        if known.told_count and count >= known.told_count * _GROWTH and not self.quiet:
            self._add_notices(known, "grew", self.now)

    def _open(self, seen: Sighting) -> None:
        made = self._sql(
            "INSERT INTO incident (key, condition, job_id, preset, host, run_id, severity, why, count, opened_at,"
            " last_at, channels, facts, tells_end) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                seen.key, seen.condition, seen.job_id, seen.preset, seen.host, seen.run_id, seen.severity, seen.why,
                seen.count, seen.at, seen.at, _json(seen.channels), _json(seen.facts),
                seen.tells_end,
            ),
        )  # fmt: skip
        if not self.quiet:
            self._add_notices(self.incident(int(made.lastrowid or 0)), "opened", self.now)

    def close(self, key: str, *, at: float, facts: Mapping[str, Any] | None = None) -> None:
        """Close an open incident, if there is one.

        What is behind it and still open has something to say now, unless it is over before that is told.
        """
        known = self.open_incident(key)
        if known is None:
            return
        self._sql(
            "UPDATE incident SET closed_at = ?, facts = ? WHERE id = ?",
            (max(at, known.opened_at), _json({**known.facts, **(facts or {})}), known.id),
        )
        self._sql("DELETE FROM notice WHERE incident_id = ? AND kind IN ('reminder', 'grew')", (known.id,))
        if known.behind:
            self._sql("DELETE FROM notice WHERE incident_id = ?", (known.id,))  # the other one's messages count it
        if known.told_at is not None and known.tells_end:
            self._add_notices(known, "found" if self.quiet else "closed", self.now)
        for each in self._incidents("behind = ? AND closed_at IS NULL", (known.id,)):
            self._add_notices(each, "found" if self.quiet else "opened", self.now)

    def incident(self, number: int) -> Incident:
        """Return an incident by its number."""
        return self._incidents("id = ?", (number,))[0]

    def open_incident(self, key: str) -> Incident | None:
        """Return the open incident of a key, or None."""
        found = self._incidents("key = ? AND closed_at IS NULL", (key,))
        return found[0] if found else None

    def open_incidents(self, condition: str = "", *, job_id: str = "") -> list[Incident]:
        """Return open incidents, oldest first; each filter that is given holds."""
        where, values = ["closed_at IS NULL"], []
        for name, value in (("condition", condition), ("job_id", job_id)):
            if value:
                where.append(f"{name} = ?")
                values.append(value)
        return self._incidents(" AND ".join(where) + " ORDER BY id", values)

    def listed_incidents(self, *, job_id: str, host: str, closed: bool, limit: int) -> list[Incident]:
        """Return incidents for a person: open ones first, then the newest first."""
        where = "(? = '' OR job_id = ?) AND (? = '' OR host = ?)" + ("" if closed else " AND closed_at IS NULL")
        order = " ORDER BY closed_at IS NOT NULL, id DESC LIMIT ?"
        return self._incidents(where + order, (job_id, job_id, host, host, limit))

    def behind(self, incident: Incident) -> list[Incident]:
        """Return the incidents that are told in the messages of one, also those that are over."""
        return self._incidents("behind = ? ORDER BY id", (incident.id,))

    def put_behind(self, incident: Incident, cause: Incident) -> None:
        """Have an incident told in the messages of another one, and nowhere else while that is open."""
        self._sql("UPDATE incident SET behind = ? WHERE id = ?", (cause.id, incident.id))
        self._sql("DELETE FROM notice WHERE incident_id = ?", (incident.id,))

    def count_open(self) -> int:
        """Return how many incidents are open."""
        return int(self._sql("SELECT count(*) FROM incident WHERE closed_at IS NULL").fetchone()[0])

    def _incidents(self, where: str, values: Sequence[object]) -> list[Incident]:
        rows = self._sql(f"SELECT * FROM incident WHERE {where}", values)  # noqa: S608  # our own conditions
        return [_incident(row) for row in rows]

    # --- notices --------------------------------------------------------------------------------------------------

    def _add_notices(self, incident: Incident, kind: str, at: float) -> None:
        for channel in incident.channels:
            self._sql("INSERT OR IGNORE INTO notice VALUES (?, ?, ?, ?)", (incident.id, channel, kind, at))

    def announce_open(self) -> None:
        """Give each open incident that was never told something to say, if it has not: the end of a quiet time."""
        silent = "closed_at IS NULL AND told_at IS NULL AND behind = 0 AND id NOT IN (SELECT incident_id FROM notice)"
        for each in self._incidents(silent, ()):
            self._add_notices(each, "found", self.now)

    def add_reminders(self, *, after_seconds: float) -> None:
        """Give each open incident that was told so long ago something to say again."""
        for each in self._incidents("closed_at IS NULL AND told_at <= ?", (self.now - after_seconds,)):
            self._add_notices(each, "reminder", self.now)

    def next_reminder_at(self, *, after_seconds: float) -> float | None:
        """Return when the next reminder is due, or None."""
        row = self._sql(
            "SELECT min(told_at) FROM incident WHERE closed_at IS NULL AND id NOT IN"
            " (SELECT incident_id FROM notice WHERE kind = 'reminder')"
        ).fetchone()
        return None if row[0] is None else float(row[0]) + after_seconds

    def notices(self) -> list[Notice]:
        """Return all notices, oldest first."""
        rows = self._sql("SELECT * FROM notice ORDER BY at, incident_id").fetchall()
        known = {each.id: each for each in self._incidents("id IN (SELECT incident_id FROM notice)", ())}
        return [
            Notice(incident=known[row["incident_id"]], channel=row["channel"], kind=row["kind"], at=row["at"])
            for row in rows
        ]

    def defer(self, notice: Notice, until: float) -> None:
        """Keep a notice back until a time."""
        key = (until, notice.incident.id, notice.channel, notice.kind)
        self._sql("UPDATE notice SET at = ? WHERE incident_id = ? AND channel = ? AND kind = ?", key)

    def drop(self, notices: Iterable[Notice]) -> None:
        """Remove notices: a message has them now."""
        for each in notices:
            self._sql(
                "DELETE FROM notice WHERE incident_id = ? AND channel = ? AND kind = ?",
                (each.incident.id, each.channel, each.kind),
            )

    def mark_told(self, incidents: Iterable[Incident]) -> None:
        """Note that incidents are part of a message, and behind no other one from now on."""
        for each in incidents:
            self._sql(
                "UPDATE incident SET told_at = ?, told_count = ?, behind = 0 WHERE id = ?",
                (self.now, each.count, each.id),
            )

    # --- mutes ----------------------------------------------------------------------------------------------------

    @cached_property
    def mutes(self) -> list[Mute]:
        """The mutes in force."""
        rows = self._sql("SELECT * FROM mute WHERE until > ? ORDER BY until", (self.now,))
        return [
            Mute(job_id=row["job_id"], host=row["host"], by=row["by_whom"], why=row["why"], since=row["since"],
                 until=row["until"])
            for row in rows
        ]  # fmt: skip

    def mute_of(self, incident: Incident) -> Mute | None:
        """Return the mute in force that covers an incident and ends last, or None."""
        return next((each for each in reversed(self.mutes) if each.covers(incident)), None)

    def mute(self, mute: Mute) -> None:
        """Keep a mute, in place of an earlier one of the same."""
        values = (mute.job_id, mute.host, mute.by, mute.why, mute.since, mute.until)
        self._sql("INSERT OR REPLACE INTO mute VALUES (?, ?, ?, ?, ?, ?)", values)
        self._sql("DELETE FROM mute WHERE until <= ?", (self.now,))

    def unmute(self, *, job_id: str, host: str) -> bool:
        """End a mute; what it kept back may be told now. Return False if there was none."""
        gone = self._sql("DELETE FROM mute WHERE job_id = ? AND host = ? AND until > ?", (job_id, host, self.now))
        self._sql("UPDATE notice SET at = min(at, ?)", (self.now,))
        return gone.rowcount > 0

    # --- upkeep ---------------------------------------------------------------------------------------------------

    def purge(self) -> None:
        """Remove incidents that were closed, and messages that were done, longer ago than they are kept."""
        incidents_before = self.now - _INCIDENTS_KEPT_SECONDS
        old = "SELECT id FROM incident WHERE closed_at < ? AND id NOT IN (SELECT incident_id FROM notice)"
        self._sql(f"DELETE FROM thread WHERE incident_id IN ({old})", (incidents_before,))  # noqa: S608
        self._sql(f"DELETE FROM incident WHERE id IN ({old})", (incidents_before,))  # noqa: S608
        self.outbox.purge(before=self.now - _MESSAGES_KEPT_SECONDS)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _incident(row: sqlite3.Row) -> Incident:
    channels, facts = json.loads(row["channels"]), json.loads(row["facts"])
    return Incident(
        **{**dict(row), "channels": tuple(channels), "facts": facts, "tells_end": bool(row["tells_end"])}
    )  # fmt: skip
