"""Sessions that were ended: how long the console remembers them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nomaflow_console.access.secret import ConsoleSecret
from nomaflow_console.access.sessions import LIFE_SECONDS, Sessions


def sessions_of(file: Path, now: list[float]) -> Sessions:
    """Return what a console that starts now knows of its sessions."""
    secret = ConsoleSecret(value=b"x" * 32)
    return Sessions(secret=secret, ended_file=file, secure=False, takes_tokens=True, clock=lambda: now[0])


def test_each_session_that_was_ended_stays_so_until_it_would_have_expired(tmp_path: Path) -> None:
    """Another logout and a restart take none of them back; what is no longer needed is forgotten."""
    now, file = [1000.0], tmp_path / "ended"
    sessions = sessions_of(file, now)
    ann, bob, cat = (sessions.start(name=name, principal="owner") for name in ("ann", "bob", "cat"))
    sessions.end(ann)
    sessions.end(bob)
    assert [sessions_of(file, now).is_valid(each) for each in (ann, bob, cat)] == [False, False, True]
    now[0] += LIFE_SECONDS
    sessions.end(cat)
    assert list(json.loads(file.read_text())) == [cat.id]


def test_a_session_ends_although_it_cannot_be_written_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The browser loses its cookie, the log says what may come back, and the next logout writes both down."""
    now, file = [1000.0], tmp_path / "ended"
    sessions = sessions_of(file, now)
    ann, bob = (sessions.start(name=name, principal="owner") for name in ("ann", "bob"))
    file.mkdir()
    assert "Max-Age=0" in sessions.end(ann)
    assert not sessions.is_valid(ann)
    assert "a copy of its cookie works again after a restart" in caplog.text
    file.rmdir()
    sessions.end(bob)
    assert [sessions_of(file, now).is_valid(each) for each in (ann, bob)] == [False, False]
