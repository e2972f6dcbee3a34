"""Listens and serves until it is told to stop."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from nomaflow_console.access.origins import Origins
from nomaflow_console.access.secret import ConsoleSecret
from nomaflow_console.app import build_app
from nomaflow_console.settings import EX_TEMPFAIL, ConsoleSettings, SettingsRefused

__all__ = ["DEFAULT_PORT", "Place", "serve"]

_log = logging.getLogger(__name__)

DEFAULT_PORT = 7434


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
    server = uvicorn.Server(config)
    told.write_text(place.url + "\n", encoding="utf-8")
    _log.info("console at %s", place.url)
    try:
        await server.serve(sockets=[place.listener])
    finally:
        if told.exists() and told.read_text(encoding="utf-8").strip() == place.url:
            told.unlink()
    return 0


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
