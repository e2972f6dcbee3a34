"""The place of metrics: its address, who may read them there, and its certificate."""

from __future__ import annotations

import hmac
import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nomaflow_api.private_file import mode_open_to_others

_LEAST = 16
_MOST_BYTES = 4096


class MetricsAddressRefused(Exception):
    """Raised when metrics must not, or cannot, be served at all; the text gives the reason and the way out."""


class MetricsAddressTaken(Exception):
    """Raised when the address cannot be listened on now."""


class MetricsKeys(Protocol):
    """The keys of metrics that ``[kernel]`` and ``[host]`` have; a path is empty if it is not given."""

    @property
    def metrics(self) -> str:
        """The address."""

    @property
    def metrics_token_file(self) -> str:
        """The file of the token."""

    @property
    def metrics_tls_cert(self) -> str:
        """The file of the certificate."""

    @property
    def metrics_tls_key(self) -> str:
        """The file of its key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsPlace:
    """The settings of a process's metrics.

    :param address: ``IP:PORT``, or ``unix:`` and an absolute path; empty means that no metrics are served
    :param token_file: file of the bearer token that a scrape has to show; None for none
    :param tls_cert: certificate, PEM, if they are served over TLS
    :param tls_key: its key
    """

    address: str = ""
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @classmethod
    def of(cls, root: Path, section: MetricsKeys, *, address: str = "") -> MetricsPlace:
        """Return the settings that a section of nomaflow.toml has, with paths that begin at a project's folder.

        :param address: replaces that of the section
        """
        address = address or section.metrics
        files = (section.metrics_token_file, section.metrics_tls_cert, section.metrics_tls_key)
        path = f"unix:{root / address.removeprefix('unix:')}" if address.startswith("unix:") else address
        token, cert, key = (root / each if each else None for each in files)
        return cls(address=path, token_file=token, tls_cert=cert, tls_key=key)


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsAddress:
    """An address to listen on.

    :param host: an IP address, with *port*; empty for a Unix socket
    :param path: of the Unix socket, absolute
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """True if only this machine can reach it."""
        return bool(self.path) or ipaddress.ip_address(self.host).is_loopback

    def is_meant_by(self, host: str | None) -> bool:
        """Return whether a request's Host header names this machine, where only this machine can reach the address.

        A page in a browser, whose name's owner made it point to loopback, has its own name there.

        :param host: None if the request has none
        """
        if host is None or self.path or not self.is_local:
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

    :raises MetricsAddressRefused: if it is malformed
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
            f"the metrics address {address!r} is neither IP:PORT nor unix:PATH; write 127.0.0.1:9464, say"
        )
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise MetricsAddressRefused(
            f"the metrics address {address!r} has no IP address; write 127.0.0.1:{port}, or 0.0.0.0:{port} for all "
            "networks of this machine"
        ) from None
    return MetricsAddress(host=host, port=int(port))


def checked_address(place: MetricsPlace) -> MetricsAddress:
    """Return the address of metrics. No file is read.

    :raises MetricsAddressRefused: if it is malformed, or the settings beside it do not let it be served
    """
    address = read_metrics_address(place.address)
    if (place.tls_cert is None) != (place.tls_key is None):
        raise MetricsAddressRefused("TLS of metrics needs both metrics_tls_cert and metrics_tls_key")
    if not address.is_local and place.token_file is None:
        raise MetricsAddressRefused(
            f"the metrics address {place.address!r} can be reached from other machines: name a token's file in "
            f"metrics_token_file, or serve metrics on 127.0.0.1:{address.port}"
        )
    return address


class MetricsCertificate:
    """The certificate of metrics over TLS. Its files are read anew for each scrape, so that they can be replaced.

    :raises MetricsAddressRefused: if the files cannot be used
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        try:
            mode = mode_open_to_others(key)
            self.context()
        except OSError as error:  # an SSLError is one
            reason = (error.strerror or str(error)).lower()
            raise MetricsAddressRefused(
                f"metrics_tls_cert {str(cert)!r} and metrics_tls_key {str(key)!r} cannot be used: {reason}"
            ) from None
        if mode:
            raise MetricsAddressRefused(f"metrics_tls_key {str(key)!r} is open to others (mode {mode}); chmod 600 it")

    def context(self) -> ssl.SSLContext:
        """Return what a server answers a handshake with.

        :raises OSError: if the files cannot be read, or do not belong together
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._cert, self._key, password=_no_password)  # else OpenSSL asks the terminal
        return context


class MetricsToken:
    """The bearer token that a scrape shows, in a file that is read anew for each one, so that it can be replaced.

    :raises MetricsAddressRefused: if the file cannot be used
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            mode = mode_open_to_others(file)
            text = self._read()
        except (OSError, UnicodeDecodeError) as error:
            reason = (getattr(error, "strerror", None) or "it is no text").lower()
            raise MetricsAddressRefused(f"metrics_token_file {str(file)!r} cannot be read: {reason}") from None
        if mode:
            raise MetricsAddressRefused(
                f"metrics_token_file {str(file)!r} is open to others (mode {mode}); chmod 600 it"
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


def _no_password() -> str:
    raise OSError("the key has a password; give one without")
