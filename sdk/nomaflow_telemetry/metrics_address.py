"""The address of metrics, and who may read them there."""

from __future__ import annotations

import hmac
import ipaddress
import os
import stat
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MetricsAddress", "MetricsAddressRefused", "MetricsAddressTaken", "MetricsToken", "read_metrics_address"]

_LEAST = 16
_MOST_BYTES = 4096


class MetricsAddressRefused(Exception):
    """Raised when metrics must not, or cannot, be served at all; the text gives the reason and the way out."""


class MetricsAddressTaken(Exception):
    """Raised when the address cannot be listened on now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsAddress:
    """A place on this machine.

    :param host: an address of loopback, with *port*; empty for a Unix socket
    :param path: of the Unix socket, absolute
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"

    def is_meant_by(self, host: str | None) -> bool:
        """Return whether a request's Host header names this machine: a page in a browser, whose name's owner made it
        point to loopback, has its own name there.

        :param host: None if the request has none
        """
        if host is None or self.path:
            return True
        name = host.strip().lower()
        if name.endswith("]") or (name.count(":") == 1 and name.rpartition(":")[2].isdigit()) or "]:" in name:
            name = name if name.endswith("]") else name.rpartition(":")[0]
        if name == "localhost":
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False


def read_metrics_address(address: str) -> MetricsAddress:
    """Return the place that an address names.

    :raises MetricsAddressRefused: if it is malformed, or can be reached from other machines
    """
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if not os.path.isabs(path):
            raise MetricsAddressRefused(
                f"the metrics address {address!r} needs an absolute path: unix:/run/metrics.sock"
            )
        return MetricsAddress(path=path)
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise MetricsAddressRefused(
            f"the metrics address {address!r} is neither HOST:PORT on loopback nor unix:PATH; write 127.0.0.1:9464, say"
        )
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        on_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        on_loopback = False
    if not on_loopback:
        raise MetricsAddressRefused(
            f"the metrics address {address!r} can be reached from other machines, and metrics have no TLS; "
            f"serve them on 127.0.0.1:{port}, and have an agent or a TLS proxy on this machine scrape them"
        )
    return MetricsAddress(host=host, port=int(port))


class MetricsToken:
    """The bearer token that a scrape shows, in a file that is read anew for each one, so that it can be replaced.

    :raises MetricsAddressRefused: if the file cannot be used
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
            text = self._read()
        except (OSError, UnicodeDecodeError) as error:
            reason = (getattr(error, "strerror", None) or "it is no text").lower()
            raise MetricsAddressRefused(f"metrics_token_file {str(file)!r} cannot be read: {reason}") from None
        if mode & 0o077:
            raise MetricsAddressRefused(
                f"metrics_token_file {str(file)!r} is open to others (its mode is {mode:04o}); chmod 600 it"
            )
        if len(text) < _LEAST:
            raise MetricsAddressRefused(
                f"metrics_token_file {str(file)!r} holds fewer than {_LEAST} characters; "
                "write a random text into it, such as that of openssl rand -hex 32"
            )

    def is_shown_by(self, authorization: str) -> bool:
        """Return whether an Authorization header has the token."""
        try:
            text = self._read()
        except (OSError, UnicodeDecodeError):
            return False
        kind, _, shown = authorization.partition(" ")
        same = hmac.compare_digest(shown.strip().encode("utf-8", "replace"), text.encode())
        return same and kind.lower() == "bearer" and len(text) >= _LEAST

    def _read(self) -> str:
        with self._file.open("rb") as stream:
            return stream.read(_MOST_BYTES).decode().strip()
