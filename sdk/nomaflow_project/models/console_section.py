"""The keys of ``[console]`` in nomaflow.toml: where the web page listens, and how browsers reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nomaflow_project.reading.keys import Entry, key
from nomaflow_project.reading.names import LogLevel


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsoleSection(Entry):
    """The console, the web page."""

    listen: str = key(
        "",
        "Where it listens: `127.0.0.1:PORT`, or `unix:PATH`, a Unix socket. An address other than loopback needs "
        "`tls_cert` and `tls_key`, or an `origin` that begins with `https://`. "
        "Empty: 127.0.0.1:7434, else a port of its own.",
    )
    origin: str = key(
        "", "Scheme and host at which browsers see it behind a proxy, such as `https://ops.example.org`. Empty: none."
    )
    tls_cert: str = key("", "File with its certificate, PEM, and those between it and its root. Empty: no TLS.")
    tls_key: str = key("", "File with the certificate's key, PEM, readable by the console's user only.")
    user_header: str = key(
        "",
        "Header in which a proxy names the person, such as `X-Forwarded-User`; runs, cancels and pauses say that name. "
        "It logs nobody in. Empty: none.",
    )
    log_level: LogLevel = key("INFO", "Lowest level of the console's own log.")
    log_format: Literal["text", "json"] = key("text", "The console's own log: for people, or one JSON object a line.")
