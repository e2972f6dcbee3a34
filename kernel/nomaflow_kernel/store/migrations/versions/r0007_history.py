"""The first schema. A new store gets the tables of ``schema.py`` at once, so only later revisions have work to do."""

from __future__ import annotations

revision = "0007"
down_revision = None


def upgrade() -> None:
    """Do nothing: no store is older."""
