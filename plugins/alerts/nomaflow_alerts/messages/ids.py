"""Ids of messages, which a repeat keeps."""

from __future__ import annotations

import secrets

__all__ = ["new_message_id"]


def new_message_id() -> str:
    """Return a new id."""
    return f"msg_{secrets.token_hex(12)}"
