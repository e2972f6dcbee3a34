"""The file of withdrawn credentials."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nomaflow_kernel.access.withdrawals_file import WithdrawnFile


def test_the_name_of_the_file_is_durable_once_a_withdrawal_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first withdrawal makes the file; without a sync of its folder a loss of power may leave none."""
    synced, sync = [], os.fsync

    def noted(descriptor: int) -> None:
        sync(descriptor)
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", noted)
    WithdrawnFile(tmp_path / "withdrawn").add({"tok_1": 9}, at_us=5)
    assert synced == [str(tmp_path / "withdrawn"), str(tmp_path)]
