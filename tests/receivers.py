"""Receivers of alerts: a web server that takes, refuses, hangs and redirects as it is told, and a mail server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from aiosmtpd.controller import Controller

from real_system import free_ports

__all__ = ["Post", "WebReceiver", "mail_server"]


@contextmanager
def mail_server(handler: Any) -> Iterator[int]:
    """Serve mail on the loopback interface; give the port.

    :param handler: answers the commands of SMTP, as aiosmtpd describes it
    """
    controller = Controller(handler, hostname="127.0.0.1", port=(port := free_ports(1)))
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@dataclass(frozen=True, kw_only=True)
class Post:
    """One request that arrived, its headers with small letters, and the status that was answered."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class WebReceiver:
    """A web server on loopback.

    :ivar answer: returns the status for a request's path and body; it may take its time
    :ivar posts: what arrived, oldest first
    """

    answer: Callable[[str, bytes], int] = lambda _path, _body: 200
    posts: list[Post] = field(default_factory=list)

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the library's name
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                status = receiver.answer(self.path, body)
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.posts.append(Post(path=self.path, headers=headers, body=body, status=status))
                if status == 0:
                    self.close_connection = True  # it closes without an answer
                    return
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def taken(self, path: str = "/hook") -> list[Post]:
        """Return what was answered with 200 at a path."""
        return [post for post in self.posts if post.status == 200 and post.path == path]

    def subjects(self, path: str = "/hook") -> list[str]:
        """Return the subjects of the messages that were taken."""
        return [post.json["subject"] for post in self.taken(path)]
