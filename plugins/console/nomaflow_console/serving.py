"""Listens and serves until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from nomaflow_console.access.origins import Origins
from nomaflow_console.access.secret import ConsoleSecret
from nomaflow_console.app import build_app
from nomaflow_console.live import Streams
from nomaflow_console.settings import EX_TEMPFAIL, ConsoleSettings, SettingsRefused

__all__ = ["DEFAULT_PORT", "Place", "serve"]

_log = logging.getLogger(__name__)

DEFAULT_PORT = 7434
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
"""The last one says that the process that has started this one is gone."""
_IGNORED = (signal.SIGHUP, signal.SIGUSR1)
"""``nomaflow up`` passes them on to kernel and host."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a console listens, and the address at which a browser sees it."""

    listener: socket.socket
    port: int | None
    url: str


async def serve(settings: ConsoleSettings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    :raises SettingsRefused: if it cannot listen, or its settings cannot be used
    """
    secret = ConsoleSecret.of(settings.state_folder)
    place = listen(settings, secret)
    told = settings.state_folder / "console"
    origins = Origins.of(id=secret.id, port=place.port, secure=settings.secure, origin=settings.origin)
    app = build_app(settings, secret=secret, origins=origins)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, date_header=False, lifespan="on",
        http="h11", loop="asyncio", timeout_graceful_shutdown=2, proxy_headers=False, forwarded_allow_ips="",
        ssl_certfile=str(settings.tls_cert) if settings.tls_cert else None,
        ssl_keyfile=str(settings.tls_key) if settings.tls_key else None,
    )  # fmt: skip
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = _Server(config, app.streams)
    told.write_text(place.url + "\n", encoding="utf-8")
    _log.info("console at %s", place.url)
    try:
        await server.serve(sockets=[place.listener])
    finally:
        if told.exists() and told.read_text(encoding="utf-8").strip() == place.url:
            told.unlink()
    return 0


class _Server(uvicorn.Server):
    """A server that ends its streams when it stops, instead of waiting for them."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, and exit as after any other end: a stop that was asked for is no failure."""
        loop = asyncio.get_running_loop()
        for number in _STOPS:
            loop.add_signal_handler(number, self._ask_to_stop)
        for number in _IGNORED:
            loop.add_signal_handler(number, lambda: None)
        yield

    def _ask_to_stop(self) -> None:
        self.force_exit = self.should_exit  # somebody asks again
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving."""
        self._streams.stop()
        await super().shutdown(sockets)


def listen(settings: ConsoleSettings, secret: ConsoleSecret) -> Place:
    """Return where the console listens.

    :raises SettingsRefused: if the address is malformed or taken
    """
    if settings.listen.startswith("unix:"):
        path = Path(settings.listen.removeprefix("unix:"))
        path.unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX)
        made.bind(str(path))
        path.chmod(0o600)
        return Place(listener=made, port=None, url=settings.origin or f"unix:{path}")
    host, _, number = (settings.listen or f"127.0.0.1:{DEFAULT_PORT}").rpartition(":")
    try:
        made = socket.create_server((host, int(number)))
    except OSError as error:
        if settings.listen:
            raise SettingsRefused(
                f"the console cannot listen at {settings.listen!r}: {error.strerror}",
                fix="name another address: --listen 127.0.0.1:0 takes a free port",
                exit_code=EX_TEMPFAIL,
            ) from None
        made = socket.create_server((host, 0))
    port = made.getsockname()[1]
    scheme = "https" if settings.secure else "http"
    return Place(listener=made, port=port, url=settings.origin or f"{scheme}://{secret.id}.localhost:{port}")
