"""The proxy itself does what its faults say."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tcp_proxy import TcpProxy, Way


class Echo:
    """A server that answers every byte with the same byte."""

    def __init__(self, path: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.address = f"unix:{path}"
        self.ended = threading.Semaphore(0)
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    def _accept(self) -> None:
        threads: list[threading.Thread] = []
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threads.append(threading.Thread(target=self._serve, args=(connection,)))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(4096):
                connection.sendall(data)
        self.ended.release()

    def close(self) -> None:
        """Stop listening; connections end when their callers do."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Echo]:
    """Start a server."""
    server = Echo(str(tmp_path / "echo"))
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[TcpProxy]:
    """Start a proxy in front of it."""
    with TcpProxy(echo.address) as started:
        yield started


def dial(proxy: TcpProxy) -> socket.socket:
    """Return a connection through the proxy, which waits at most 10 seconds for anything."""
    host, _, port = proxy.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def said(connection: socket.socket, text: bytes) -> bytes:
    """Say something and return as much of an answer."""
    connection.sendall(text)
    return heard(connection, len(text))


def heard(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes."""
    found = b""
    while len(found) < size and (data := connection.recv(size - len(found))):
        found += data
    return found


def silent(connection: socket.socket) -> bool:
    """Return True if nothing arrives for a moment."""
    connection.settimeout(0.2)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10)
    return False


def test_what_passes_is_counted_and_the_end_too(proxy: TcpProxy, echo: Echo) -> None:
    """Megabytes arrive as they were sent, each direction is counted, and either side's end reaches the other."""
    with dial(proxy) as connection:
        sent = bytes(range(256)) * 4096
        writer = threading.Thread(target=connection.sendall, args=(sent,))
        writer.start()
        assert heard(connection, len(sent)) == sent
        writer.join()
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert echo.ended.acquire(timeout=10)
    assert proxy.bytes == {Way.UP: len(sent), Way.DOWN: len(sent)}


@pytest.mark.parametrize("way", [None, Way.UP, Way.DOWN])
def test_what_is_blocked_arrives_once_healed(proxy: TcpProxy, way: Way | None) -> None:
    """Data of a blocked direction arrives once it is unblocked, in order."""
    with dial(proxy) as connection:
        assert said(connection, b"1") == b"1"
        proxy.blackhole() if way is None else proxy.drop(way)
        connection.sendall(b"23")
        assert silent(connection)
        with dial(proxy) as second:
            second.sendall(b"x")
            assert silent(second)
            proxy.heal()
            assert heard(second, 1) == b"x"
        assert heard(connection, 2) == b"23"


def test_an_end_does_not_pass_a_blackhole(proxy: TcpProxy, echo: Echo) -> None:
    """The server hears of a caller that is gone only when the network is back."""
    with dial(proxy) as connection:
        assert said(connection, b"1") == b"1"
        proxy.blackhole()
    assert not echo.ended.acquire(timeout=0.2)
    proxy.heal()
    assert echo.ended.acquire(timeout=10)


def test_a_reset_reaches_both_sides(proxy: TcpProxy, echo: Echo) -> None:
    """The caller gets an error, the server an end, and the next connection works."""
    with dial(proxy) as connection:
        assert said(connection, b"1") == b"1"
        proxy.reset()
        assert echo.ended.acquire(timeout=10)
        with pytest.raises(ConnectionError):
            connection.recv(1)
    with dial(proxy) as connection:
        assert said(connection, b"2") == b"2"


@pytest.mark.parametrize("keeps", list(Way))
def test_a_half_open_connection_stays_so(proxy: TcpProxy, echo: Echo, keeps: Way) -> None:
    """One side hears of the end, the other nothing, healed or not; new connections work."""
    with dial(proxy) as connection:
        assert said(connection, b"1") == b"1"
        proxy.half_open(keeps)
        if keeps is Way.DOWN:
            assert echo.ended.acquire(timeout=10)
            proxy.heal()
            assert silent(connection)
        else:
            with pytest.raises(ConnectionError):
                connection.recv(1)
            proxy.heal()
            assert not echo.ended.acquire(timeout=0.2)
        assert proxy.stuck == 1
        with dial(proxy) as another:
            assert said(another, b"2") == b"2"
    assert proxy.stuck == (0 if keeps is Way.DOWN else 1)


def test_refusing_and_delay(proxy: TcpProxy) -> None:
    """A refused caller is reset while another's connection continues, and a delay does not reorder data."""
    with dial(proxy) as connection:
        assert said(connection, b"1") == b"1"
        proxy.refuse()
        with pytest.raises(ConnectionError), dial(proxy) as refused:
            refused.recv(1)
        proxy.delay(1.5, Way.DOWN)
        connection.sendall(b"2")
        connection.sendall(b"3")
        assert silent(connection)
        assert heard(connection, 2) == b"23"
    proxy.heal()
