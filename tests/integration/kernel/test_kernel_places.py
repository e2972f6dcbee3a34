"""Places of a kernel's history and socket in oddly named projects; and a database that does not answer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_process import DEADLINE, KernelProcess, ended
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from test_kernel_crash import empty_database

from machine_parts import need
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from postgres_server import PostgresServer
from real_system import launch
from waiting import eventually

_FULL = """
mount -t tmpfs -o size=400k none "$1" && cp "$0/kernel.db" "$1" || exit
dd if=/dev/zero of="$1/rest"
shift
exec "$@"
"""
"""Starts a command beside a copy of a history on a disk that is full."""


@pytest.mark.parametrize("name", ["what?x=1", "10%20", 'a#b, c \'n "ü"', "no\udcfftext"])
async def test_a_project_may_have_any_name(project: Path, name: str) -> None:
    """A project of any name holds its history, and its kernel is reachable at the written address."""
    own = project / name
    own.mkdir()
    process = KernelProcess(project=own, environ={"XDG_RUNTIME_DIR": str(project)})
    try:
        await process.start()
        found = await process.client().GetKernel(kernel.GetKernelRequest(), timeout=DEADLINE)
        assert found.project.startswith(f"{project}/")
        assert (own / ".nomaflow" / "kernel.db").is_file()
        assert {path.name for path in project.iterdir()} <= {name, "nomaflow"}
    finally:
        await process.close()


async def test_a_kernel_that_finds_no_room_at_its_start_says_to_start_it_again(project: Path, tmp_path: Path) -> None:
    """It ends, and does not claim to continue by itself as a kernel that serves does."""
    need("unshare", namespaces=True)
    process = await KernelProcess(project=project).start()
    await process.stop()
    full = tmp_path / "full"
    full.mkdir()
    store = f"sqlite:///{full}/kernel.db"
    command = [sys.executable, "-m", "nomaflow_kernel", "--project", str(project), "--store", store]
    side = ["unshare", "--mount", "sh", "-c", _FULL, str(project / ".nomaflow"), str(full)]
    done = await asyncio.to_thread(
        subprocess.run, [*side, *command], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    told = done.stderr.splitlines()[-1]
    assert (done.returncode, "free disk space, then start the kernel again; the store is" in told) == (1, True), told


async def test_a_relative_store_lies_in_the_project(project: Path) -> None:
    """Wherever the kernel was started; what a URL writes with a percent sign is undone, in the setting's own part."""
    own = project / "a%20b"
    own.mkdir()
    process = KernelProcess(project=own, flags=["--store", "sqlite:///my%20history.db"])
    try:
        await process.start()
        assert (own / "my history.db").is_file()
        assert not (own / ".nomaflow" / "kernel.db").exists()
    finally:
        await process.close()


async def test_a_store_that_cannot_be_reached_is_named_without_its_password(project: Path) -> None:
    """The message names the database that cannot be reached, and the log holds no secret."""
    store = "postgresql+asyncpg://ann:hunter2@127.0.0.1:1/history"
    code, errors = await ended("--project", str(project), "--store", store)
    assert (code, "hunter2" in errors) == (1, False)
    assert errors.splitlines()[-1].endswith("the store is postgresql+asyncpg://ann:***@127.0.0.1:1/history")


async def test_an_address_that_cannot_be_told_ends_the_start_with_a_sentence(project: Path) -> None:
    """A kernel that cannot write its address does not stay, and leaves no half-written file."""
    (project / ".nomaflow" / "address").mkdir(parents=True)
    code, errors = await ended("--project", str(project))
    last = errors.splitlines()[-1]
    assert (code, "Traceback" in errors) == (1, False)
    assert last.startswith(f"nomaflow kernel: cannot write '{project}/.nomaflow/address': is a directory")
    assert not [each.name for each in (project / ".nomaflow").iterdir() if each.name.startswith(".address")]


async def test_withdrawals_that_cannot_be_read_end_the_start_with_a_sentence(project: Path) -> None:
    """A kernel that does not know what was withdrawn gives nobody access."""
    (project / ".nomaflow" / "withdrawn").mkdir(parents=True)
    code, errors = await ended("--project", str(project))
    assert (code, "Traceback" in errors) == (78, False)
    assert errors.splitlines()[-1].startswith(
        f"nomaflow kernel: cannot read '{project}/.nomaflow/withdrawn', which says"
    )


async def test_a_stop_is_heeded_while_a_database_does_not_answer(project: Path) -> None:
    """A kernel that has not opened its store yet exits with 0 at the signal, whatever the database does."""
    asked = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = f"postgresql+asyncpg://nobody@127.0.0.1:{port}/nothing"
    child = launch("nomaflow_kernel", project, "--store", store, log_file=project / "kernel.log")
    try:
        async with asyncio.timeout(DEADLINE):
            await asked.wait()
            code = await asyncio.to_thread(child.stop)
        assert (code, "Traceback" in child.log) == (0, False), child.log
    finally:
        child.kill()
        server.close()
        await server.wait_closed()


async def _lead_once(process: KernelProcess) -> None:
    """Start a kernel that makes its database, and stop it."""
    await process.start()
    await eventually(lambda: " loaded in " in process.log)
    assert await process.stop() == 0


@pytest.mark.postgres
async def test_a_kernel_that_waits_for_its_database_as_it_starts_can_be_stopped(
    project: Path, postgres_server: PostgresServer
) -> None:
    """Another session has locked the schedules, which are read after the first calls are answered."""
    store = await empty_database(postgres_server)
    process = KernelProcess(project=project, flags=["--store", store])
    try:
        await _lead_once(process)
        engine = create_async_engine(store)
        async with engine.begin() as connection:
            await connection.execute(text("LOCK TABLE schedules IN ACCESS EXCLUSIVE MODE"))
            await process.start()
            assert await process.stop() == 0
            assert process.log.count(" loaded in ") == 1  # by the first start
        await engine.dispose()
    finally:
        await process.close()


@pytest.mark.postgres
async def test_a_kernel_that_cannot_begin_to_lead_can_be_stopped(
    project: Path, postgres_server: PostgresServer
) -> None:
    """A table cannot be read, so it tries again every second: a stop meanwhile is a stop, and no failure."""
    store = await empty_database(postgres_server)
    process = KernelProcess(project=project, flags=["--store", store])
    try:
        await _lead_once(process)
        engine = create_async_engine(store)
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE pauses RENAME TO elsewhere"))
        await engine.dispose()
        child = launch("nomaflow_kernel", project, "--store", store, log_file=project / "second.log")
        try:
            await eventually(lambda: "could not begin to lead" in child.log)
            told = len(child.log)
            assert await asyncio.to_thread(child.stop) == 0, child.log
            assert "Traceback" not in child.log[told:], child.log
        finally:
            child.kill()
    finally:
        await process.close()


@pytest.mark.postgres
async def test_a_kernel_that_reloads_while_its_database_hangs_can_be_stopped(
    project: Path, postgres_server: PostgresServer
) -> None:
    """It cannot store the jobs that it has read again; its last messages to the server are skipped in silence."""
    own = project / "own.toml"
    own.write_text("jobs = []\n")
    flags = ["--store", await empty_database(postgres_server), "--jobs", str(own)]
    process = KernelProcess(project=project, flags=flags)
    try:
        await process.start()
        await eventually(lambda: " loaded in " in process.log)
        with postgres_server.frozen():
            own.write_text('[[jobs]]\nid = "x"\nhost = "team"\n[[jobs.steps]]\nname = "a"\ncallable = "m:f"\n')
            assert process.process is not None
            os.kill(process.process.pid, signal.SIGHUP)
            await eventually(lambda: "reading the jobs file again" in process.log)
            assert await process.stop() == 0
        assert "Traceback" not in process.log, process.log
    finally:
        await process.close()
