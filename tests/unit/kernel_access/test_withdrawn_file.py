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


def test_a_withdrawal_that_is_repeated_keeps_its_time(tmp_path: Path) -> None:
    """The first one counts: from then on the credential was good for nothing."""
    file = WithdrawnFile(tmp_path / "withdrawn")
    for names, at_us in ((("tok_1",), 5), (("tok_1", "tok_2"), 7)):
        file.add(dict.fromkeys(names, 9), at_us=at_us)
    assert file.read() == {"tok_1": 5, "tok_2": 7}
