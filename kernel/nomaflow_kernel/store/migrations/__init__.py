"""The schema's revisions, oldest first. Alembic is imported only if a store is at an older one than the head."""

from __future__ import annotations

__all__ = ["HEAD", "REVISIONS"]

REVISIONS = ("0007",)
HEAD = REVISIONS[-1]
