"""The folder of a user's profiles."""

from __future__ import annotations

import os

import pytest

from nomaflow.client.profiles import ProfileFolder


def test_a_user_that_the_machine_does_not_know_has_no_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters run containers as numbers of their choice, without a home."""
    monkeypatch.setattr(os, "geteuid", lambda: 1_234_567_890)
    assert ProfileFolder.of({}).names() == ()
