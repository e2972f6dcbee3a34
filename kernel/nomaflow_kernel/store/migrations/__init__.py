"""The schema's revisions, oldest first. Alembic is imported only if a store is at an older one than the head."""

from __future__ import annotations

__all__ = ["HEAD", "REVISIONS", "is_revision", "usable_revision"]

REVISIONS = ("0007", "0008", "0009")
HEAD = REVISIONS[-1]


def usable_revision(revision: str) -> bool:
    """Return whether this version can use a schema of that revision, once its own revisions have run.

    A revision's first digit is the major version it belongs to. Within one, revisions only add what older statements
    need not know, so a later one of the same major version can be used as it is: an upgrade can be rolled back.
    """
    if revision in REVISIONS:
        return True
    return is_revision(revision) and revision[0] == HEAD[0] and revision > HEAD


def is_revision(text: str) -> bool:
    """Return whether a text is a number of four digits, as our revisions are."""
    return len(text) == len(HEAD) and text.isascii() and text.isdigit()
