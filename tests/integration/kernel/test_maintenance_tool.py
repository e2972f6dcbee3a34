"""Backups and restores as processes: two at once, one that is interrupted, one that may not read."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import kernel_process
import pytest
from kernel_process import DEADLINE

from machine_parts import need
from nomaflow_kernel.store.errors import StoreInUse
from nomaflow_kernel.store.file_lock import FileLock
from nomaflow_kernel.store.sql_store import open_store
from nomaflow_kernel.upkeep.__main__ import main
from nomaflow_kernel.upkeep.backup import back_up
from waiting import eventually

TOOL = ("-m", "nomaflow_kernel.upkeep")
HEARING = """import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Becomes a Python process that hears Ctrl-C, also where the tests run in a shell's background."""


async def started(*arguments: str) -> asyncio.subprocess.Process:
    """Start a Python process."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=pipe, stderr=pipe)


async def ended(process: asyncio.subprocess.Process) -> tuple[int, dict[str, Any]]:
    """Wait for the tool; return its exit code and what it has said."""
    async with asyncio.timeout(DEADLINE):
        out, errors = await process.communicate()
    assert errors == b""
    return process.returncode or 0, json.loads(out)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # Python before 3.13: send_signal may lose the exit code of a process that ends (gh-87744).
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)


async def frozen_at_work(*arguments: str, history: Path) -> asyncio.subprocess.Process:
    """Start a restore and freeze it while it holds the history; begin again if it was done by then."""
    lock = history.with_name("kernel.db.lock")
    while True:
        tool = await started(*arguments)
        await eventually(lambda tool=tool: lock.read_text() == f"{tool.pid} restore\n" or tool.returncode is not None)
        if tool.returncode is None:
            _signal(tool, signal.SIGSTOP)
            look = FileLock(str(history))
            try:
                look.acquire()
            except StoreInUse:
                return tool
            look.release()
            _signal(tool, signal.SIGCONT)
        assert (await ended(tool))[0] == 0


@pytest.fixture
async def history(tmp_path: Path) -> Path:
    """Make a history in a project."""
    path = tmp_path / "project" / ".nomaflow" / "kernel.db"
    path.parent.mkdir(parents=True)
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.close()
    return path


async def test_of_two_restores_at_once_one_is_told_of_the_other(history: Path, tmp_path: Path) -> None:
    """The second restore, or a kernel that starts, does nothing and names the one at work; the first completes."""
    back_up(history, tmp_path / "backup")
    restoring = (*TOOL, "restore", str(tmp_path / "backup"), "--force", "--project", str(history.parents[1]))
    first = await frozen_at_work(*restoring, history=history)
    try:
        code, told = await ended(await started(*restoring))
        assert (code, told["refused"]["reason"]) == (1, "STORE_IN_USE")
        assert f"another restore, pid {first.pid}" in told["refused"]["message"]
        code, errors = await kernel_process.ended("--project", str(history.parents[1]))
        assert (code, f"in use by a restore, pid {first.pid}" in errors) == (75, True)
    finally:
        first.send_signal(signal.SIGCONT)
    code, told = await ended(first)
    assert (code, Path(told["done"]["replaced"]).is_file()) == (0, True)
    assert [each.name for each in history.parent.iterdir() if "partial" in each.name] == []


async def test_a_backup_that_is_interrupted_leaves_nothing(history: Path, tmp_path: Path) -> None:
    """Ctrl-C is heard while SQLite copies, or waits to: the command ends, and the unfinished copy is gone."""
    target = tmp_path / "copies" / "backup"
    target.parent.mkdir()
    with closing(sqlite3.connect(history, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("UPDATE kernel SET holder = holder")
        backup = ("-m", "nomaflow_cli", "backup", str(target), "--project", str(history.parents[1]))
        command = await started("-c", HEARING, *backup)
        await eventually(lambda: list(target.parent.iterdir()))
        command.send_signal(signal.SIGINT)
        async with asyncio.timeout(DEADLINE):
            _, errors = await command.communicate()
    assert (command.returncode, b"Traceback" in errors) == (130, False), errors
    assert list(target.parent.iterdir()) == []


async def test_a_disk_without_room_is_no_damage(history: Path, tmp_path: Path) -> None:
    """A history that cannot be looked into for want of room is not called damaged; a first start there says why not."""

    async def without_room(*arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        command = ("sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-B", *arguments)
        return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)

    code, told = await ended(await without_room(*TOOL, "inspect", "--project", str(history.parents[1])))
    assert (code, told["done"]["damage"], told["done"]["trouble"]) == (0, "", "disk I/O error")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    kernel = await without_room("-m", "nomaflow_kernel", "--project", str(fresh))
    async with asyncio.timeout(DEADLINE):
        _, errors = await kernel.communicate()
    assert (kernel.returncode, errors.count(b"\n"), b"free disk space" in errors) == (1, 1, True), errors


@pytest.mark.parametrize("work", ["backup", "inspect"])
async def test_what_may_not_be_read_is_said_plainly(
    history: Path, work: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another user's project is refused by path and cause, and not taken for a tool that is broken."""
    need(root=True)
    history.parent.chmod(0o700)
    for folder in (history.parents[1], *history.parents[2:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65_534)
    try:
        code = main([work, str(history.parents[1] / "copy"), "--project", str(history.parents[1])])
    finally:
        os.seteuid(0)
    told = json.loads(capsys.readouterr().out)["refused"]
    assert (code, told["reason"]) == (1, "FILE_UNUSABLE")
    assert told["message"] == f"{str(history)!r}: permission denied"


async def test_a_history_in_a_folder_that_cannot_be_written_is_not_called_a_bad_backup(
    history: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal names the history and not the new file: SQLite cannot make the files that it reads with."""
    need(root=True)
    target = tmp_path / "open" / "copy"
    target.parent.mkdir(mode=0o777)
    target.parent.chmod(0o777)
    for path in (history, history.parent, history.parents[1], *history.parents[2:-2]):
        path.chmod(path.stat().st_mode | 0o055)
    os.seteuid(65_534)
    try:
        code = main(["backup", str(target), "--project", str(history.parents[1])])
    finally:
        os.seteuid(0)
    told = json.loads(capsys.readouterr().out)["refused"]
    assert (code, told["reason"]) == (1, "FILE_UNUSABLE")
    assert told["message"].startswith(f"cannot read {str(history)!r}: ")
    assert list(target.parent.iterdir()) == []
