"""Listens and serves until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import logging
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from nomaflow_api.private_file import write_private
from nomaflow_console.access.origins import Origins
from nomaflow_console.access.secret import ConsoleSecret
from nomaflow_console.app import build_app
from nomaflow_console.connections import PromptProtocol
from nomaflow_console.live import Streams
from nomaflow_console.settings import ConsoleSettings, SettingsRefused
from nomaflow_telemetry.service_manager import ServiceManager

_log = logging.getLogger(__name__)

DEFAULT_PORT = 7434
_STOPS = (signal.SIGTERM, signal.SIGINT)
_IGNORED = (signal.SIGHUP, signal.SIGUSR1)
"""``nomaflow up`` passes them on to kernel and host."""
_ORPHANED = signal.SIGUSR2
"""Says, once or often, that the process that has started this one is gone."""
_PROBE_SECONDS = 2.0
_DRAIN_SECONDS = 2
_GIVE_BACK_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The place where a console listens.

    :param port: None for a Unix socket
    :param url: the address that a browser opens, without a path
    """

    listener: socket.socket
    port: int | None
    url: str


async def serve(settings: ConsoleSettings, environ: MutableMapping[str, str]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    :param environ: the variables of the service manager are taken out
    :raises SettingsRefused: if it cannot listen, or its settings cannot be used
    """
    manager = ServiceManager.of(environ)
    secret = ConsoleSecret.of(settings.state_folder)
    place = listen(settings, secret)
    origins = Origins.of(
        id=secret.id, port=place.port, secure=settings.secure, origin=settings.origin, host=_host(settings)
    )
    app, streams = build_app(settings, secret=secret, origins=origins)

    def started() -> None:
        _tell(settings, place)
        _log.info("the console is at %s; `nomaflow console link` prints a link that logs in", place.url)
        manager.ready(f"at {place.url}")

    server = _Server(_config(app, settings), streams, started)
    giving_back = asyncio.create_task(_give_memory_back(server))
    try:
        await server.serve(sockets=[place.listener])
    finally:
        giving_back.cancel()
        manager.stopping("stopped")
        _forget(settings, place)
    return 0


async def _give_memory_back(server: uvicorn.Server) -> None:
    """Give the system back now and then what is free: glibc keeps the megabytes of a page or a search for the next.

    Once nobody asks for pages, the garbage of the last ones is collected first.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)  # other C libraries have none
    seen = collected = 0
    while True:
        await asyncio.sleep(_GIVE_BACK_SECONDS)
        if collected != seen == server.server_state.total_requests:
            gc.collect()
            collected = seen
        seen = server.server_state.total_requests
        await asyncio.to_thread(trim, 0)


def _tell(settings: ConsoleSettings, place: Place) -> None:
    """Say in a file, which is whole as soon as it is there, where the console is and which process it is.

    :raises SettingsRefused: if it cannot be written
    """
    told = settings.told_address
    try:
        write_private(told, f"{place.url}\n{os.getpid()}\n".encode())
    except OSError as error:
        raise SettingsRefused(
            f"the console cannot say in {str(told)!r} where it is: {(error.strerror or str(error)).lower()}",
            fix="check that folder and its disk",
            exit_code=1,
        ) from None


def _forget(settings: ConsoleSettings, place: Place) -> None:
    """Remove what says where the console was, unless another one has begun since."""
    told = settings.told_address
    with contextlib.suppress(OSError):
        if told.read_text(encoding="utf-8").split() == [place.url, str(os.getpid())]:
            told.unlink()
        if place.port is None:
            Path(settings.listen.removeprefix("unix:")).unlink()


def _config(app: object, settings: ConsoleSettings) -> uvicorn.Config:
    """Return uvicorn's settings.

    :raises SettingsRefused: if certificate and key do not go together
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, date_header=False, lifespan="on",  # type: ignore[arg-type]  # an ASGI application
        http=partial(PromptProtocol, waiting={}), ws="none",  # type: ignore[arg-type]  # it makes a protocol
        timeout_graceful_shutdown=_DRAIN_SECONDS, proxy_headers=False,
        timeout_keep_alive=15, h11_max_incomplete_event_size=64 * 1024, limit_concurrency=1_000,
        ssl_certfile=settings.tls_cert, ssl_keyfile=settings.tls_key and str(settings.tls_key),
        ssl_keyfile_password="none",  # noqa: S106  # else OpenSSL asks the terminal
    )  # fmt: skip
    try:
        config.load()
    except OSError as error:  # also ssl.SSLError
        raise SettingsRefused(
            f"the console's certificate {str(settings.tls_cert)!r} cannot be used: {error}",
            fix="correct tls_cert and tls_key; the key must have no password",
        ) from None
    return config


class _Server(uvicorn.Server):
    """A server that ends its streams when it stops, instead of waiting for them.

    :param started: called once it serves and takes signals
    """

    def __init__(self, config: uvicorn.Config, streams: Streams, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._streams = streams
        self._started = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, and exit as after any other end: a stop that was asked for is no failure."""
        loop = asyncio.get_running_loop()
        for number in _STOPS:
            loop.add_signal_handler(number, self._ask_to_stop)
        for number in _IGNORED:
            loop.add_signal_handler(number, lambda: None)
        loop.add_signal_handler(_ORPHANED, self._orphaned)
        yield

    def _ask_to_stop(self) -> None:
        self.force_exit = self.should_exit  # somebody asks again
        self.should_exit = True

    def _orphaned(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving."""
        self._streams.stop()
        await super().shutdown(sockets)


def _host(settings: ConsoleSettings) -> str:
    """Return the host of the address that the settings name; empty for none, and for every address of the machine."""
    host = "" if settings.listen.startswith("unix:") else settings.listen.rpartition(":")[0]
    return "" if host in ("0.0.0.0", "[::]") else host  # noqa: S104  # nothing is bound here


def listen(settings: ConsoleSettings, secret: ConsoleSecret) -> Place:
    """Return where the console listens: where the settings say, else at the first of its usual ports that is free.

    :raises SettingsRefused: if the address is taken, or cannot be listened on
    """
    scheme = "https" if settings.secure else "http"
    if settings.listen.startswith("unix:"):
        listener = _unix_listener(Path(settings.listen.removeprefix("unix:")))
        url = settings.origin or f"{scheme}://{secret.id}.localhost:{DEFAULT_PORT}"
        return Place(listener=listener, port=None, url=url)
    if settings.listen:
        host, _, number = settings.listen.rpartition(":")
        try:
            listener = _tcp_listener(host.strip("[]"), int(number))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "another process listens there" if taken else (error.strerror or str(error)).lower()
            raise SettingsRefused(
                f"the console cannot listen at {settings.listen}: {why}",
                fix="name another address, such as --listen 127.0.0.1:0 for a free port",
                **({"exit_code": os.EX_TEMPFAIL} if taken else {}),
            ) from None
    else:
        listener = _first_free(settings, secret)
    port = int(listener.getsockname()[1])
    name = _host(settings) if settings.tls_cert and _host(settings) else f"{secret.id}.localhost"
    return Place(listener=listener, port=port, url=settings.origin or f"{scheme}://{name}:{port}")


def _first_free(settings: ConsoleSettings, secret: ConsoleSecret) -> socket.socket:
    """Listen on loopback: at the port of before, so that open pages go on, the usual one, its own, or any free one."""
    try:
        before = urlsplit(settings.told_address.read_text(encoding="utf-8").split()[0]).port
    except (OSError, ValueError, IndexError):
        before = None
    for port in (before or DEFAULT_PORT, DEFAULT_PORT, secret.port):
        with contextlib.suppress(OSError):
            return _tcp_listener("127.0.0.1", port)
    return _tcp_listener("127.0.0.1", 0)


def _tcp_listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=256)


def _unix_listener(path: Path) -> socket.socket:
    """Listen on a Unix socket, in place of one on which nobody answers.

    :raises SettingsRefused: if somebody answers, another file is there, or it cannot be made
    """
    try:
        if path.is_socket():
            _refuse_answered(path)
            path.unlink()
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.bind(str(path))
        path.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IWGRP)  # a proxy may be of the folder's group
        made.listen(256)
    except OSError as error:
        raise SettingsRefused(
            f"the console cannot listen at {str(path)!r}: {(error.strerror or str(error)).lower()}",
            fix="name a socket in a folder that this user can write to",
        ) from None
    return made


def _refuse_answered(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        with contextlib.suppress(ConnectionRefusedError):
            probe.connect(str(path))
            raise SettingsRefused(
                f"another process listens at {str(path)!r}", fix="name another socket", exit_code=os.EX_TEMPFAIL
            )
