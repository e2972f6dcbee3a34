"""The token that each form carries, so that no other page can send one."""

from __future__ import annotations

import hmac

from nomaflow_console.access.sessions import Session

FIELD = "csrf"


def is_genuine(session: Session, given: str) -> bool:
    """Return True if a request shows the token of its session."""
    return hmac.compare_digest(session.csrf.encode(), given.encode())
