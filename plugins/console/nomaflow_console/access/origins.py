"""The hosts and origins at which a console answers: others are pages that a browser was lured to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_LOCAL = ("127.0.0.1", "[::1]", "localhost")


@dataclass(frozen=True, kw_only=True, slots=True)
class Origins:
    """The addresses at which browsers may see this console.

    :param scheme: ``http`` or ``https``
    :param hosts: names without ports
    :param port: the port that goes with them; None for any, behind a Unix socket that somebody forwards
    :param public: the host, with its port, of the origin behind a proxy; empty for none
    """

    scheme: str
    hosts: frozenset[str]
    port: int | None
    public: str = ""

    def knows_host(self, host: str) -> bool:
        """Return True if a request may be for this host: one of another name was rebound to our address."""
        if self.public:
            return host == self.public
        name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "")
        default = 443 if self.scheme == "https" else 80
        number = int(port) if port.isdecimal() else default if not port else -1
        return name in self.hosts and (self.port is None or self.port == number)

    def allows_change(self, headers: Mapping[str, str]) -> bool:
        """Return True if a request that changes something comes from a page of ours."""
        same = headers.get("origin", "") == f"{self.scheme}://{headers.get('host', '')}"
        return same and headers.get("sec-fetch-site", "same-origin") == "same-origin"

    @classmethod
    def of(cls, *, id: str, port: int | None, secure: bool, origin: str = "", host: str = "") -> Origins:
        """Return those of a console.

        :param id: the console's name, which gives it a host name of its own
        :param port: where it listens; None for a Unix socket
        :param origin: scheme and host behind a proxy; empty for none
        :param host: the host that it listens on; empty for loopback
        """
        scheme, _, public = origin.partition("://") if origin else ("https" if secure else "http", "", "")
        more = {host} if host else set()
        return cls(scheme=scheme, hosts=frozenset({f"{id}.localhost", *_LOCAL, *more}), port=port, public=public)
