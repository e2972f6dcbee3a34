"""The one file of the alerts: cursor, incidents, expected runs, outgoing messages, mutes."""

from __future__ import annotations

from nomaflow_alerts.ledger.book import Book
from nomaflow_alerts.ledger.ledger import Ledger, LedgerInUse
from nomaflow_alerts.ledger.records import Incident, Message, Mute, Notice, OpenRun, Sighting

__all__ = [
    "Book",
    "Incident",
    "Ledger",
    "LedgerInUse",
    "Message",
    "Mute",
    "Notice",
    "OpenRun",
    "Sighting",
]
