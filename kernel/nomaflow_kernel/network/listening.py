"""The addresses that a kernel listens on: the file that tells them, and why one cannot be had."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

from nomaflow_api.addresses import TLS_SCHEME, is_tcp
from nomaflow_api.private_file import write_private
from nomaflow_kernel.domain.errors import CannotStart
from nomaflow_project.reading.regular_files import reason_of


def publish_address(file: Path, address: str) -> None:
    """Write the file that tells clients and hosts the address, atomically.

    :raises CannotStart: if it cannot be written
    """
    try:
        write_private(file, f"{address}\n".encode())
    except OSError as error:
        raise CannotStart(
            f"cannot write {str(file)!r}: {reason_of(error)}; "
            "hosts and clients find the kernel by that file; check its directory and the free disk space",
            exit_code=1,
        ) from None


def forget_address(file: Path, address: str) -> None:
    """Remove the file, unless it holds the address of another kernel by now."""
    with contextlib.suppress(OSError):
        if file.read_text(encoding="utf-8").strip() == address:
            file.unlink()


def why_not_listened(address: str) -> CannotStart:
    """Return the error for an address that gRPC could not listen on; the system itself says why."""
    told = f"cannot listen on {address!r}"
    if not is_tcp(address):
        why = f"{_why_not_bound(address)}; look at its directory and the free disk space"
        return CannotStart(f"{told}: {why}", exit_code=1)
    host, _, port = address.removeprefix(TLS_SCHEME).rpartition(":")
    name = host.removeprefix("[").removesuffix("]")
    try:
        for family, kind, protocol, _, place in socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(place)
    except socket.gaierror as error:
        why = f"the name {name!r} is not known here ({str(error.strerror).lower()})"
        return CannotStart(f"{told}: {why}; correct it, or this machine's DNS", exit_code=1)
    except PermissionError:
        return CannotStart(f"{told}: permission denied; choose a port above 1023, those below are for root")
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            why = f"{reason_of(error)}; correct it, or give this machine that address"
            return CannotStart(f"{told}: {why}", exit_code=1)
    keys = "[kernel] listen, listen_hosts or listen_join"
    why = f"the port is taken; stop what listens there, or choose another with {keys}"
    return CannotStart(f"{told}: {why}", exit_code=os.EX_TEMPFAIL)


def _why_not_bound(address: str) -> str:
    path = address.removeprefix("unix:")
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(path)
    except OSError as error:
        return reason_of(error)
    os.unlink(path)
    return "it could not be bound a moment ago"
