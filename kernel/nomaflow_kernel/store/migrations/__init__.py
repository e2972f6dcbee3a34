"""The schema's revisions, oldest first. Alembic is imported only if a store is not at the head."""

from __future__ import annotations

__all__ = ["HEAD", "REVISIONS"]

REVISIONS = ("0001", "0002", "0003", "0004")
HEAD = REVISIONS[-1]
