"""Sessions that were ended: how long the console remembers them."""

from __future__ import annotations

import json
from pathlib import Path

from nomaflow_console.access.secret import ConsoleSecret
from nomaflow_console.access.sessions import LIFE_SECONDS, Sessions


def test_each_session_that_was_ended_stays_so_until_it_would_have_expired(tmp_path: Path) -> None:
    """Another logout and a restart take none of them back; what is no longer needed is forgotten."""
    now, file = [1000.0], tmp_path / "ended"

    def made() -> Sessions:
        secret = ConsoleSecret(value=b"x" * 32)
        return Sessions(secret=secret, ended_file=file, secure=False, takes_tokens=True, clock=lambda: now[0])

    sessions = made()
    ann, bob, cat = (sessions.start(name=name, principal="owner") for name in ("ann", "bob", "cat"))
    sessions.end(ann)
    sessions.end(bob)
    assert [made().is_valid(each) for each in (ann, bob, cat)] == [False, False, True]
    now[0] += LIFE_SECONDS
    sessions.end(cat)
    assert list(json.loads(file.read_text())) == [cat.id]
