"""HTTP/2 by hand, for callers that no library would play: frames, headers and connections with nothing in between."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from doors import Doors, HostIdentity

__all__ = [
    "DATA", "HEADERS", "MESSAGE", "PING", "RST_STREAM", "SETTINGS",
    "begin_call", "calls_refused", "frame", "greeted", "received",
]  # fmt: skip

DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0, 1, 3, 4, 6
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW = 4
MESSAGE = bytes(5)
"""An empty request, as gRPC frames it."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def greeted(
    address: str, doors: Doors, folder: Path, *, identity: HostIdentity | None = None, window: int = 65_535
) -> ssl.SSLSocket:
    """Return a connection on which HTTP/2 has begun.

    :param folder: takes the files of the identity
    :param window: bytes of each answer that may be sent before the caller asks for more
    """
    context = ssl.create_default_context(cadata=doors.authorities.decode())
    context.set_alpn_protocols(["h2"])
    if identity is not None:
        (folder / "key.pem").write_bytes(identity.key)
        (folder / "certificate.pem").write_bytes(identity.certificate)
        context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    host, _, port = address.rpartition(":")
    connection = context.wrap_socket(socket.create_connection((host, int(port)), 20), server_hostname=host)
    settings = _WINDOW.to_bytes(2, "big") + window.to_bytes(4, "big")
    connection.sendall(_PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, _ACK, 0))
    return connection


def begin_call(stream: int, path: bytes, *more: tuple[bytes, bytes], message: bytes = MESSAGE) -> bytes:
    """Return the frames of a unary call.

    :param more: names and values of further headers
    """
    usual: tuple[tuple[bytes, bytes], ...] = (
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", path),
        (b":authority", b"x"),
    )
    usual += ((b"te", b"trailers"), (b"content-type", b"application/grpc"))
    return frame(HEADERS, _END_HEADERS, stream, b"".join(map(_literal, (*usual, *more)))) + frame(
        DATA, _END_STREAM, stream, message
    )


def _literal(header: tuple[bytes, bytes]) -> bytes:
    """Return a header that is neither compressed nor remembered."""
    return b"\x00" + b"".join(_string(part) for part in header)


def _string(text: bytes) -> bytes:
    length, prefix = len(text), b""
    if length >= 127:
        length, prefix = length - 127, b"\x7f"
        while length >= 128:
            length, prefix = length // 128, prefix + bytes((length % 128 + 128,))
    return prefix + bytes((length,)) + text


def received(connection: ssl.SSLSocket, kinds: Sequence[int], *, seconds: float = 20.0) -> list[int]:
    """Read frames until so many of these kinds are there, and return the streams they belong to, in that order.

    :raises TimeoutError: if they do not come in time
    """
    wanted, streams = list(kinds), []
    for kind, _, stream in _frames(connection, seconds):
        if kind in wanted:
            wanted.remove(kind)
            streams.append(stream)
        if not wanted:
            break
    return streams


def calls_refused(connection: ssl.SSLSocket, calls: int, *, seconds: float = 20.0) -> int:
    """Read until each of so many calls has headers, and return how many ended with them: those without an answer.

    :raises TimeoutError: if they do not come in time
    """
    frames = (flags for kind, flags, _ in _frames(connection, seconds) if kind == HEADERS)
    return sum(bool(flags & _END_STREAM) for flags in islice(frames, calls))


def _frames(connection: ssl.SSLSocket, seconds: float) -> Iterator[tuple[int, int, int]]:
    """Yield kind, flags and stream of each frame."""
    buffer, until = b"", time.monotonic() + seconds
    while True:
        while len(buffer) >= 9 and len(buffer) >= 9 + int.from_bytes(buffer[:3], "big"):
            yield buffer[3], buffer[4], int.from_bytes(buffer[5:9], "big")
            buffer = buffer[9 + int.from_bytes(buffer[:3], "big") :]
        connection.settimeout(max(until - time.monotonic(), 0.001))
        part = connection.recv(65_536)
        if not part:
            raise ConnectionError("the connection was closed")
        buffer += part
