"""Files that only their owner may read."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from nomaflow_api.private_file import create_private, write_private


@pytest.mark.parametrize("write", [write_private, create_private])
def test_a_file_is_for_its_owner_only_and_alone_in_its_folder(tmp_path: Path, write: object) -> None:
    """No draft is left, whether the file was there before or not."""
    for content in (b"one", b"two"):
        write(tmp_path / "key", content)  # type: ignore[operator]
    assert [(path.name, stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.iterdir()] == [("key", 0o600)]


def test_writing_replaces_and_creating_does_not(tmp_path: Path) -> None:
    """The last writer wins, and the first creator; a file with a wider mode is not kept."""
    path = tmp_path / "key"
    create_private(path, b"one")
    create_private(path, b"two")
    assert path.read_bytes() == b"one"
    path.chmod(0o644)
    write_private(path, b"three")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"three", 0o600)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """The file keeps its text, and no draft lies beside it."""
    (tmp_path / "key").mkdir()
    with pytest.raises(IsADirectoryError):
        write_private(tmp_path / "key", b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("write", [write_private, create_private])
def test_the_name_is_durable_once_a_file_is_written(
    write: Callable[[Path, bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is part of its directory: without a sync of that, a power loss may leave the file before, or none."""
    file, synced, sync = tmp_path / "key", [], os.fsync

    def noted(descriptor: int) -> None:
        sync(descriptor)
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), file.exists()))

    monkeypatch.setattr(os, "fsync", noted)
    write(file, b"secret")
    assert synced[-1] == (str(tmp_path), True)
