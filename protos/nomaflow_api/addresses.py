"""Addresses of kernels: ``unix:/path/kernel.sock`` and ``tls://host:port``, which ``host:port`` is short for."""

from __future__ import annotations

import re
from pathlib import Path

TLS_SCHEME = "tls://"
HOST_URI = "nomaflow:host:"
"""The beginning of the only name in a host's certificate; the rest is the host's name."""
_UNIX = "unix:"
_COMMA = re.compile(r",\s*(?=unix:|tls://|[^/,]+:\d+\s*(?:,|$))")
"""A comma before an address; one within a path is part of it."""
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s/:\[\]@?#]+):([0-9]{1,5})")


def split_addresses(text: str) -> tuple[str, ...]:
    """Return the addresses in a text that separates them by commas."""
    return tuple(each.strip() for each in _COMMA.split(text) if each.strip(", "))


def is_tcp(address: str) -> bool:
    """Return whether an address is a TCP address. Connections to it always use TLS."""
    return not address.startswith(_UNIX)


def host_and_port(address: str) -> tuple[str, str] | None:
    """Return the host and the port of a TCP address, with or without its scheme; None if it is malformed."""
    found = _HOST_AND_PORT.fullmatch(address.removeprefix(TLS_SCHEME))
    return (found[1], found[2]) if found and int(found[2]) < 65536 else None


def has_known_form(address: str) -> bool:
    """Return True for ``unix:/path``, ``host:port`` and ``tls://host:port``, the only forms that can reach a kernel."""
    if is_tcp(address):
        return host_and_port(address) is not None
    return address.partition(":")[2] != "" and address.isprintable()


def with_scheme(address: str) -> str:
    """Return an address as it is written and published: ``tls://`` in front of a TCP one."""
    return f"{TLS_SCHEME}{address.removeprefix(TLS_SCHEME)}" if is_tcp(address) else address


def address_in(file: Path) -> str:
    """Return the address that a process has left in a file of its project.

    A project that is copied while its kernel runs has the file, too: what leads to another project's socket is none.

    :raises OSError: if the file cannot be read, or holds none
    :raises ValueError: if it holds no text
    """
    address = file.read_text(encoding="utf-8").strip().partition("\n")[0]
    run = Path(address.removeprefix(_UNIX)).parent
    foreign = run.parts[-2:] == (".nomaflow", "run") and not run.parent.samefile(file.resolve().parent)
    if foreign or not address:
        raise FileNotFoundError(f"{str(file)!r} holds no address of its project")
    return address
