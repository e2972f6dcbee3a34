"""The join string of an instance: whether one is needed, and the file in which it waits for its machine."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from nomaflow.client import ClientError, KernelClient
from nomaflow.client.values import IssuedToken, TokenView
from nomaflow_launchers.app import _Launcher
from nomaflow_launchers.engines.engine import Engine, EngineError
from nomaflow_launchers.engines.host_process import JOIN_SECONDS, keep_join_string
from nomaflow_launchers.engines.slurm import Slurm
from nomaflow_launchers.planning import Order
from nomaflow_project.models.launcher_section import LauncherSection, LauncherShape


class _Kernel:
    """A kernel that answers every invitation in one way."""

    def __init__(self, answer: str | ClientError) -> None:
        self.answer = answer
        self.asked: list[tuple[str, timedelta, timedelta]] = []

    async def invite_instance(self, host: str, *, lifetime: timedelta, instance_lifetime: timedelta) -> IssuedToken:
        self.asked.append((host, lifetime, instance_lifetime))
        if isinstance(self.answer, ClientError):
            raise self.answer
        return IssuedToken(token=TokenView(token_id="tok_1", kind="host", name=host), secret=self.answer)


class _Engine:
    def log_of(self, engine_id: str) -> str:
        return engine_id


def _launcher(kernel: _Kernel) -> _Launcher:
    section = LauncherSection(hosts=("team",), walltime_seconds=7200.0)
    return _Launcher(cast(KernelClient, kernel), cast(Engine, _Engine()), section)


async def test_each_start_has_a_string_of_its_own_with_two_ends() -> None:
    """It waits for a week; the certificate lasts for the walltime and what engines add to it."""
    kernel = _Kernel("nfj1.secret")
    assert await _launcher(kernel)._join_string("team") == "nfj1.secret"
    assert kernel.asked == [("team", timedelta(days=7), timedelta(seconds=7200 + 900))]


async def test_a_kernel_on_a_unix_socket_needs_none_and_a_refusal_starts_nothing() -> None:
    """A launcher without the grant is told which one it lacks, and no instance is started that could not join."""
    on_socket = ClientError("this kernel listens on its Unix socket only", reason="NOT_ON_TCP")
    assert await _launcher(_Kernel(on_socket))._join_string("team") == ""
    refused = ClientError("slurm may not launch host:team", reason="PERMISSION_DENIED")
    with pytest.raises(ClientError, match="may not launch host:team"):
        await _launcher(_Kernel(refused))._join_string("team")


def test_a_string_waits_in_a_file_of_its_user_alone(tmp_path: Path) -> None:
    """Each in a file of its own; those that can no longer be used are removed."""
    first, second = keep_join_string(tmp_path, "nfj1.one"), keep_join_string(tmp_path, "nfj1.two")
    assert (first.read_text(), second.read_text()) == ("nfj1.one\n", "nfj1.two\n")
    assert {stat.S_IMODE(each.stat().st_mode) for each in (first, second)} == {0o600}
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    long_ago = time.time() - JOIN_SECONDS - 60
    os.utime(first, (long_ago, long_ago))
    third = keep_join_string(tmp_path, "nfj1.three")
    assert set(first.parent.iterdir()) == {second, third}


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The error names the folder: an instance whose string cannot be kept is not started."""
    (tmp_path / ".nomaflow").write_text("")
    with pytest.raises(EngineError, match=r"a join string cannot be kept in .*: Not a directory"):
        keep_join_string(tmp_path, "nfj1.one")


def test_an_order_shows_no_secret() -> None:
    """The text of an order, as a log or a traceback has it, shows no join string."""
    order: Any = Order(store_id="s", host="team", shape=LauncherShape(name="d"), join="nfj1.secret")
    assert "nfj1" not in repr(order)


async def test_a_folder_of_logs_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The launcher goes on: a shared disk comes back."""
    (tmp_path / ".nomaflow").write_text("")
    engine = Slurm(LauncherSection(hosts=("team",)), project=tmp_path, environ=os.environ)
    with pytest.raises(EngineError, match=r"the folder of logs .* cannot be made: Not a directory"):
        await engine.start(Order(store_id="s", host="team", shape=LauncherShape(name="small")))


def test_a_string_that_is_moved_away_meanwhile_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instance that it was for has found its machine between the list of files and the look at each."""
    first = keep_join_string(tmp_path, "nfj1.one")
    listed = Path.iterdir

    def moved(folder: Path) -> Iterator[Path]:
        files = list(listed(folder))
        first.unlink(missing_ok=True)
        return iter(files)

    monkeypatch.setattr(Path, "iterdir", moved)
    second = keep_join_string(tmp_path, "nfj1.two")
    assert second.read_text() == "nfj1.two\n"
