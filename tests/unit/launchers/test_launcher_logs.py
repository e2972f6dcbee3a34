"""The logs of launched instances: old ones are removed."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from nomaflow_launchers.engines.host_process import InstanceLogs

DAY = 86_400


def _log(logs: InstanceLogs, engine_id: str, *, days: float) -> Path:
    """Return a log to which nothing was written for so many days."""
    path, written = logs.path(engine_id), time.time() - days * DAY
    path.write_text("")
    os.utime(path, (written, written))
    return path


async def test_a_log_goes_once_its_instance_must_have_ended_90_days_ago(tmp_path: Path) -> None:
    logs = InstanceLogs(tmp_path, longest_seconds=10 * DAY)
    folder = logs.path("1").parent
    folder.mkdir(parents=True)
    kept = _log(logs, "1", days=99.9)
    _log(logs, "2", days=100.1)
    other = folder / "notes"
    os.utime(_log(logs, "3", days=200).rename(other), (0, 0))
    await logs.prepare()
    assert set(folder.iterdir()) == {kept, other}
    later = _log(logs, "2", days=101)
    await logs.prepare()  # the next look is a day after the first
    assert later.exists()


async def test_a_log_that_cannot_be_removed_holds_up_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logs = InstanceLogs(tmp_path, longest_seconds=DAY)
    await InstanceLogs(tmp_path, longest_seconds=DAY).prepare()
    _log(logs, "1", days=200)

    def refuses(_: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refuses)
    with caplog.at_level(logging.WARNING):
        await logs.prepare()
    assert "cannot be removed: Operation not permitted" in caplog.text


async def test_a_log_that_somebody_else_removes_meanwhile_ends_no_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = InstanceLogs(tmp_path, longest_seconds=DAY)
    await InstanceLogs(tmp_path, longest_seconds=DAY).prepare()
    for engine_id in ("1", "2"):
        _log(logs, engine_id, days=200)
    remove = Path.unlink

    def removes_twice(path: Path) -> None:
        remove(path)
        remove(path)

    monkeypatch.setattr(Path, "unlink", removes_twice)
    await logs.prepare()
    assert not list(logs.path("1").parent.iterdir())
