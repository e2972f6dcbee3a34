"""Joining a kernel that is away for a while."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nomaflow_host import app
from nomaflow_host.identity.files import IdentityFile
from nomaflow_host.process.errors import NotJoined


async def test_the_log_says_in_plain_words_how_long_a_host_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Hours are no power of ten."""
    tries: list[bool] = []

    async def join(*_: Any, **__: Any) -> bool:
        tries.append(True)
        if len(tries) == 1:
            raise NotJoined("no kernel answers", exit_code=os.EX_SOFTWARE)
        return True

    monkeypatch.setattr(app, "join_kernel", join)
    monkeypatch.setattr(app, "read_join_string", lambda _: None)
    monkeypatch.setattr(app, "_JOIN_AGAIN_SECONDS", 0.0)
    options = app.HostOptions(project=tmp_path, join="join", idle_exit_seconds=7200.0)
    assert await app._joined(options, cast(Any, SimpleNamespace(host="team")), IdentityFile(tmp_path))
    assert caplog.messages == ["no kernel answers; trying for 2 h"]
