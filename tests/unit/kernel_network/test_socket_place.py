"""Ownership of a Unix socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine_parts import need
from nomaflow_kernel.domain.errors import CannotStart
from nomaflow_kernel.network import socket_place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path in a directory that only this user can enter."""
    tmp_path.chmod(0o700)
    return tmp_path / "kernel.sock"


@pytest.fixture
def neighbour(path: Path) -> Iterator[socket.socket]:
    """A process that listens there, with room for one who connects."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(0)
        yield listener


def test_what_a_dead_kernel_left_is_removed(path: Path, neighbour: socket.socket) -> None:
    """A socket without a listener is removed; a mere check changes nothing."""
    neighbour.close()
    socket_place.refuse_answered(f"unix:{path}")
    assert path.is_socket()
    socket_place.claim_socket(f"unix:{path}")
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o710, 0o701, 0o755])
def test_a_socket_that_others_could_reach_is_refused(path: Path, mode: int) -> None:
    """A socket is refused in a directory that other users may enter: gRPC opens the socket itself to all."""
    path.parent.chmod(mode)
    with pytest.raises(CannotStart, match=r"is accessible to other users, .* run `chmod 700 "):
        socket_place.claim_socket(f"unix:{path}")
    path.parent.chmod(0o700)
    socket_place.claim_socket(f"unix:{path}")


def test_a_directory_of_another_user_is_refused(path: Path) -> None:
    """A directory of another user is refused: its owner could put another socket there."""
    need(root=True)
    os.chown(path.parent, 65534, 65534)
    with pytest.raises(CannotStart, match="is accessible to other users"):
        socket_place.claim_socket(f"unix:{path}")


@pytest.mark.parametrize("look", [socket_place.refuse_answered, socket_place.claim_socket])
def test_a_neighbour_that_answers_keeps_its_socket(look: object, path: Path, neighbour: socket.socket) -> None:
    """The second kernel is refused."""
    assert callable(look)
    with pytest.raises(CannotStart, match="another kernel listens on"):
        look(f"unix:{path}")
    assert path.is_socket()


@pytest.mark.parametrize("look", [socket_place.refuse_answered, socket_place.claim_socket])
def test_a_frozen_neighbour_keeps_its_socket(
    look: object, path: Path, neighbour: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neighbour that accepts no connection is not mistaken for a dead one."""
    assert callable(look)
    monkeypatch.setattr(socket_place, "_PROBE_SECONDS", 0.1)
    waiting = []
    try:
        for _ in range(4):
            each = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            waiting.append(each)
            each.setblocking(False)
            if each.connect_ex(str(path)):
                break
        with pytest.raises(CannotStart, match="cannot tell whether a kernel listens"):
            look(f"unix:{path}")
    finally:
        for each in waiting:
            each.close()
    assert path.is_socket()
