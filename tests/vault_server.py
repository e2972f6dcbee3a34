"""A stand-in for a vault on loopback: the few calls of its HTTP interface that the plugin makes, faults on demand."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["VaultServer", "vault_server"]


@dataclass(kw_only=True)
class VaultServer:
    """Its secrets, its logins, and the faults that it shows.

    :param secrets: path, such as ``kv/db``, to the fields
    :param tokens: valid tokens
    :param lease: ``lease_duration`` of secrets, seconds
    :param status: answered to every call in place of the right one; 0 for none
    :param redirect: address to which every call is redirected; empty for none
    :param body: sent in place of the right one; None for none
    :param delay: seconds before each answer
    :param drip: seconds between the bytes of an answer
    :param calls: method and path of each call
    """

    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {"root-t0ken"})
    approle: tuple[str, str] = ("role-1", "secret-id-1")
    lease: int = 0
    login_lease: int = 3600
    status: int = 0
    redirect: str = ""
    body: bytes | None = None
    delay: float = 0.0
    drip: float = 0.0
    calls: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    address: str = ""
    logins: int = 0

    def answer(self, method: str, path: str, token: str, sent: dict[str, Any]) -> tuple[int, Any]:
        """Return status and body of a call."""
        if self.status:
            return self.status, {"errors": ["as told, with t0ken"]}
        if (method, path) == ("POST", "/v1/auth/approle/login"):
            if (sent.get("role_id"), sent.get("secret_id")) != self.approle:
                return 400, {"errors": ["invalid role or secret ID"]}
            self.logins += 1
            made = f"approle-t0ken-{self.logins}"
            self.tokens.add(made)
            return 200, {"auth": {"client_token": made, "lease_duration": self.login_lease}}
        if token not in self.tokens:
            return 403, {"errors": ["permission denied"]}
        mount, _, rest = path.removeprefix("/v1/").partition("/data/")
        data = self.secrets.get(f"{mount}/{rest}")
        if data is None:
            return 404, {"errors": []}
        return 200, {"lease_duration": self.lease, "data": {"data": data, "metadata": {"version": 1}}}


@contextmanager
def vault_server(*, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[VaultServer]:
    """Serve until the end of the block."""
    vault = VaultServer()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            sent = json.loads(self.rfile.read(length) or b"{}")
            vault.calls.append(f"{self.command} {self.path}")
            vault.headers.append(dict(self.headers))
            time.sleep(vault.delay)
            status, body = vault.answer(self.command, self.path, self.headers.get("X-Vault-Token", ""), sent)
            content = json.dumps(body).encode() if vault.body is None else vault.body
            try:
                self.send_response(307 if vault.redirect else status)
                if vault.redirect:
                    self.send_header("location", vault.redirect + self.path)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                for index in range(len(content)) if vault.drip else ():
                    self.wfile.write(content[index : index + 1])
                    time.sleep(vault.drip)
                if not vault.drip:
                    self.wfile.write(content)
            except OSError:
                pass  # the client has given up

        do_GET = do_POST = _serve  # noqa: N815 - the base class asks for these names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    vault.address = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield vault
    finally:
        server.shutdown()
        server.server_close()
