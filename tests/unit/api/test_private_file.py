"""Files that only their owner may read."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from machine_parts import need
from nomaflow_alerts.ledger.ledger import Ledger
from nomaflow_alerts.settings import CannotServe
from nomaflow_api.private_file import create_private, locked, write_private
from nomaflow_host.process.errors import StateUnwritable
from nomaflow_host.project.instance_lock import Instance, InstanceLock
from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_kernel.store.file_lock import FileLock
from nomaflow_launchers import app as launcher
from nomaflow_launchers.settings import CannotStart


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


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    """A full disk has no room for it; a file that others may read is replaced all the same."""
    path = tmp_path / "key"
    write_private(path, b"one")
    before = path.stat().st_ino
    write_private(path, b"one")
    assert path.stat().st_ino == before
    path.chmod(0o644)
    write_private(path, b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_of_another_user_is_replaced_unread() -> None:
    """Root may have left it: a host that joins again would use up its string, and could not keep the identity."""
    need(root=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "key")
        write_private(path, b"one")
        os.chown(folder, 65_534, 65_534)
        os.seteuid(65_534)
        try:
            write_private(path, b"two")
            assert path.read_bytes() == b"two"
        finally:
            os.seteuid(0)


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


def test_a_lock_is_one_holders_until_it_is_closed(tmp_path: Path) -> None:
    """A process that may not have it keeps no descriptor."""
    held = locked(tmp_path / "lock")
    open_files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError):
        locked(tmp_path / "lock")
    assert len(os.listdir("/proc/self/fd")) == open_files
    os.close(held)
    os.close(locked(tmp_path / "lock"))
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("take", "refusal"),
    [
        (lambda folder: FileLock(str(folder / "kernel.db")).acquire(), StoreUnavailable),
        (lambda folder: InstanceLock(state_dir=folder).acquire(Instance.new()), StateUnwritable),
        (lambda folder: launcher._only_one(folder).__enter__(), CannotStart),
        (lambda folder: asyncio.run(Ledger(folder / "alerts.db").open()), CannotServe),
    ],
    ids=["kernel", "host", "launcher", "alerts"],
)
def test_a_disk_without_locks_is_told(
    take: Callable[[Path], object], refusal: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared disk may have none: that ended a part with a traceback."""

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(refusal, match=r"(?i)no locks available"):
        take(tmp_path)
