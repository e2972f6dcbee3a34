"""A proxy in front of a TCP port or a Unix socket that breaks connections the way networks do.

It runs in a thread of its own; every method may be called from any thread and has taken effect when it returns. What
goes from the caller to the server is ``Way.UP``, the answers are ``Way.DOWN``.

A network does not corrupt a stream: what is lost is sent again. So a direction that is blocked delivers nothing, not
even the end of a connection, and the sender's buffers fill; once healed, what was on its way arrives, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["TcpProxy", "Way"]

_CHUNK = 64 * 1024
_QUEUED = 64
_ABORT = struct.pack("ii", 1, 0)


class Way(Enum):
    """A direction: up to the server, or down to the caller."""

    UP = "up"
    DOWN = "down"


@dataclass(eq=False)
class _Pair:
    """One connection of a caller, and the one to the server that belongs to it."""

    caller: socket.socket
    server: socket.socket
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def ends(self, way: Way) -> tuple[socket.socket, socket.socket]:
        """Return where a direction comes from and where it goes."""
        return (self.caller, self.server) if way is Way.UP else (self.server, self.caller)


class TcpProxy:
    """One listening address, and one server behind it.

    :param upstream: the server, ``HOST:PORT`` or ``unix:PATH``, or a function that returns it at each connection
    :param listen: ``HOST:PORT`` (0 for a free port) or ``unix:PATH``
    """

    def __init__(self, upstream: str | Callable[[], str], *, listen: str = "127.0.0.1:0") -> None:
        self._upstream = upstream if callable(upstream) else lambda: upstream
        self._listen = listen
        self._listener: socket.socket | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp proxy", daemon=True)
        self._open = {way: asyncio.Event() for way in Way}
        self._delay = dict.fromkeys(Way, 0.0)
        self._pairs: set[_Pair] = set()
        self._stuck: list[socket.socket] = []
        self._accepting: asyncio.Task[None] | None = None
        self._refusing = False
        self.bytes = dict.fromkeys(Way, 0)
        self.accepted = 0

    def __enter__(self) -> Self:
        """Start it."""
        self._thread.start()
        self._call(self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Break what is left and end the thread."""
        self._call(self._stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> str:
        """The proxy's address, in gRPC's form."""
        assert self._listener is not None
        name = self._listener.getsockname()
        return f"unix:{name}" if isinstance(name, str) else f"{name[0]}:{name[1]}"

    @property
    def connections(self) -> int:
        """The number of connections through the proxy."""
        return len(self._pairs)

    @property
    def stuck(self) -> int:
        """The number of half-open connections: one end has not given up yet."""
        watch = select.poll()
        for end in self._stuck:
            watch.register(end, select.POLLRDHUP)
        return len(self._stuck) - len(watch.poll(0))

    def blackhole(self) -> None:
        """Block both directions; new connections are accepted and get no data."""
        self._call(self._block, *Way)

    def drop(self, way: Way) -> None:
        """Block one direction."""
        self._call(self._block, way)

    def delay(self, seconds: float, *ways: Way) -> None:
        """Have everything take so much longer, in both directions or in those given; 0 for no delay."""

        async def change() -> None:
            for way in ways or Way:
                self._delay[way] = seconds

        self._call(change)

    def refuse(self) -> None:
        """Reset new connections, as a port without a server does; existing ones continue."""
        self._call(self._set_refusing, True)

    def reset(self) -> None:
        """Reset every connection at both ends; new ones are taken."""
        self._call(self._reset)

    def half_open(self, keeps: Way) -> None:
        """Make one side vanish without a word, for every connection there is.

        :param keeps: the side that still believes in the connection: ``Way.DOWN`` the caller, ``Way.UP`` the server.
            Nothing is read from it and nothing arrives, healed or not, until it gives up; the other side is reset
        """
        self._call(self._half_open, keeps)

    def heal(self) -> None:
        """Unblock everything, without delay."""
        self._call(self._heal)

    def _call(self, function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        async def run() -> None:
            await function(*arguments)

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    async def _start(self) -> None:
        family, address = _parsed(self._listen)
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(512)
        self._listener = listener
        await self._heal()
        self._accepting = asyncio.create_task(self._accept(listener))

    async def _stop(self) -> None:
        assert self._accepting is not None
        assert self._listener is not None
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        await self._reset()
        for end in self._stuck:
            _abort(end)
        self._listener.close()
        if self._listen.startswith("unix:"):
            Path(self._listen.removeprefix("unix:")).unlink(missing_ok=True)

    async def _accept(self, listener: socket.socket) -> None:
        connecting: set[asyncio.Task[None]] = set()
        try:
            while True:
                caller, _ = await self._loop.sock_accept(listener)
                self.accepted += 1
                if self._refusing:
                    _abort(caller)
                    continue
                task = asyncio.create_task(self._connect(caller))
                connecting.add(task)
                task.add_done_callback(connecting.discard)
        finally:
            for task in connecting:
                task.cancel()
            await asyncio.gather(*connecting, return_exceptions=True)

    async def _connect(self, caller: socket.socket) -> None:
        """Connect a caller with the server, once the way there is open."""
        caller.setblocking(False)
        server: socket.socket | None = None
        try:
            await self._open[Way.UP].wait()
            family, address = _parsed(self._upstream())
            server = socket.socket(family, socket.SOCK_STREAM)
            server.setblocking(False)
            await self._loop.sock_connect(server, address)
        except (OSError, asyncio.CancelledError):
            _abort(caller)
            if server is not None:
                server.close()
            return
        pair = _Pair(caller, server)
        self._pairs.add(pair)
        pair.tasks = [asyncio.create_task(self._carry(pair, way)) for way in Way]
        both = asyncio.gather(*pair.tasks, return_exceptions=True)
        both.add_done_callback(lambda _: self._forget(pair))

    def _forget(self, pair: _Pair) -> None:
        if pair in self._pairs:
            self._pairs.discard(pair)
            pair.caller.close()
            pair.server.close()

    async def _carry(self, pair: _Pair, way: Way) -> None:
        """Carry one direction until its source ends; a broken source breaks the other side, once it can hear of it."""
        source, target = pair.ends(way)
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED)
        reading = asyncio.create_task(self._read(source, way, queue))
        try:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(due - self._loop.time())
                await self._open[way].wait()
                if not data:
                    break
                await self._loop.sock_sendall(target, data)
                self.bytes[way] += len(data)
            await reading
            target.shutdown(socket.SHUT_WR)
        except OSError:
            await self._open[way].wait()
            self._break(pair)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, source: socket.socket, way: Way, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Read until the end, which is passed on as no bytes; an error is raised once all before it is passed on."""
        data = b"-"
        try:
            while data:
                await self._open[way].wait()
                data = await self._loop.sock_recv(source, _CHUNK)
                await queue.put((self._loop.time() + self._delay[way], data))
        except OSError:
            await queue.put((self._loop.time() + self._delay[way], b""))
            raise

    def _break(self, pair: _Pair) -> None:
        """Reset both ends of a connection, and carry nothing more."""
        if pair not in self._pairs:
            return
        self._pairs.discard(pair)
        me = asyncio.current_task()
        for task in pair.tasks:
            if task is not me:
                task.cancel()
        _abort(pair.caller)
        _abort(pair.server)

    async def _reset(self) -> None:
        for pair in list(self._pairs):
            tasks = pair.tasks
            self._break(pair)
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _half_open(self, keeps: Way) -> None:
        for pair in list(self._pairs):
            self._pairs.discard(pair)
            for task in pair.tasks:
                task.cancel()
            await asyncio.gather(*pair.tasks, return_exceptions=True)
            gone, kept = (pair.server, pair.caller) if keeps is Way.DOWN else (pair.caller, pair.server)
            _abort(gone)
            self._stuck.append(kept)

    async def _set_refusing(self, refusing: bool) -> None:
        self._refusing = refusing

    async def _block(self, *ways: Way) -> None:
        for way in ways:
            self._open[way].clear()

    async def _heal(self) -> None:
        self._refusing = False
        for way in Way:
            self._delay[way] = 0.0
            self._open[way].set()


def _parsed(address: str) -> tuple[socket.AddressFamily, Any]:
    if address.startswith("unix:"):
        return socket.AF_UNIX, address.removeprefix("unix:")
    host, _, port = address.rpartition(":")
    return socket.AF_INET, (host, int(port))


def _abort(end: socket.socket) -> None:
    """Close a socket with a reset instead of a proper end."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    end.close()
