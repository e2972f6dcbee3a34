"""Runs one peer: its server, its worker and its program, in a folder of its own, and asks the program for measures."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from bench.figures import at_rank
from bench.peers.installing import FOLDER
from bench.peers.kept import Figures
from bench.peers.known import FUNCTIONS, HERE, Peer
from bench.system import PATIENCE
from postgres_server import SUPERUSER, PostgresServer

__all__ = ["PeerFailed", "Served", "postgres", "served"]


class PeerFailed(Exception):
    """Raised when a peer ends, or does not answer in time.

    :ivar peer: its name
    """

    def __init__(self, peer: str, what: str, log: str) -> None:
        super().__init__(f"{peer} {what}; the ends of its logs:\n{log}")
        self.peer = peer


class Served:
    """The program of a peer that is up."""

    def __init__(self, peer: Peer, folder: Path, process: asyncio.subprocess.Process) -> None:
        self._peer, self._folder, self._process = peer, folder, process

    async def take(self, measure: str, size: int) -> Figures:
        """Return the figures of one measure: runs or steps a second, or milliseconds at two ranks.

        :raises PeerFailed: where the program does not answer
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([FUNCTIONS[measure], size]).encode() + b"\n")
        answer = await self.answer(measure)
        if measure == "M2":
            return {"M2 p50": at_rank(answer, 0.5), "M2 p99": at_rank(answer, 0.99)}
        return {measure: size / answer}

    async def answer(self, to: str) -> Any:
        """Return the next answer of the program."""
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        except TimeoutError:
            line = b""
        if not line:
            logs = {log.name: log.read_text(errors="replace")[-1500:] for log in self._folder.glob("*.log")}
            raise PeerFailed(
                self._peer.name, f"did not answer {to}", "\n".join(f"{name}: {end}" for name, end in logs.items())
            )
        return json.loads(line)


@asynccontextmanager
async def served(peer: Peer) -> AsyncIterator[Served]:
    """Start everything of a peer, and end and remove it afterwards.

    :raises PeerFailed: where it does not start
    """
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="noma-peer-"))
        stack.callback(shutil.rmtree, folder)
        more = {"PYTHONPATH": str(HERE.parents[1]), "NODE_PATH": str(FOLDER / "node_modules")}
        if peer.service == "redis":
            socket = folder / "redis.sock"
            server = await stack.enter_async_context(
                _process(
                    *("redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(folder)),
                    *("--appendonly", "yes", "--appendfsync", "always"),
                    log=folder / "redis.log",
                )
            )
            while not socket.exists():
                if server.returncode is not None:
                    raise PeerFailed(peer.name, "has no server", (folder / "redis.log").read_text())
                await asyncio.sleep(0.01)
            more["PEER_STORE"] = str(socket)
        elif peer.service == "postgresql":
            database = await stack.enter_async_context(postgres())
            more |= {"PGHOST": str(database.folder), "PGUSER": SUPERUSER, "PGDATABASE": "postgres"}
        else:
            more["PEER_STORE"] = str(folder / "store.db")
        tools = FOLDER / "venv" / "bin"
        python = (str(tools / "python"), "-m", "bench.peers.programs.asked", peer.module)
        command = python if peer.language == "python" else ("node", str(HERE / "programs" / peer.program))
        program = await stack.enter_async_context(_process(*command, log=folder / "program.log", more=more, asked=True))
        up = Served(peer, folder, program)
        await up.answer("its start")  # by then the tables are there
        if peer.worker:
            tool, *options = peer.worker
            worker = tool if peer.language == "node" else str(tools / tool)
            await stack.enter_async_context(_process(worker, *options, log=folder / "worker.log", more=more))
        yield up


@asynccontextmanager
async def postgres() -> AsyncIterator[PostgresServer]:
    """Start a PostgreSQL server with its durability on, and remove it afterwards."""
    server = await asyncio.to_thread(PostgresServer)
    try:
        await asyncio.to_thread(server.start, durable=True)
        yield server
    finally:
        await asyncio.to_thread(server.stop)


@asynccontextmanager
async def _process(
    *command: str, log: Path, more: Mapping[str, str] | None = None, asked: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a process with children of its own, and end them all afterwards."""
    pipe = asyncio.subprocess.PIPE if asked else asyncio.subprocess.DEVNULL
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=pipe,
            stdout=pipe if asked else file,
            stderr=file,
            env=os.environ | (more or {}),
            cwd=log.parent,
            limit=2**22,  # bytes of one answer
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                print(f"{command[0]} does not end when asked; killed", file=sys.stderr)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its session: what is left of it
        await process.wait()
