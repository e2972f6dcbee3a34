"""Principals of a console: each has connections and a memory, and those that nobody needs are let go."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomaflow_console.kernel import calls
from nomaflow_console.kernel.calls import Kernels
from nomaflow_console.settings import ConsoleSettings


async def test_a_principal_that_has_not_called_for_the_longest_time_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what pages keep of it. The one that is asked for stays, and so does one for whom the kernel is watched."""
    monkeypatch.setattr(calls, "_MOST_PRINCIPALS", 2)
    kernels = Kernels(ConsoleSettings(project=tmp_path, address="tls://127.0.0.1:1"))
    watched, idle = kernels.principal("watched"), kernels.principal("idle")
    watched.hub.watch_a_while()
    kept = idle.kept("zones", dict)
    assert idle.kept("zones", dict) is kept
    newest = kernels.principal("newest")
    assert kernels.principal("watched") is watched
    assert kernels.principal("newest") is newest
    again = kernels.principal("idle")
    assert again is not idle
    assert again.kept("zones", dict) is not kept
    await kernels.close()
