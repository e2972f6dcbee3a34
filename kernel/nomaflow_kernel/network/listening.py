"""A kernel's listening addresses: private directories for sockets, stale sockets, the file with the address."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from nomaflow_api.addresses import TLS_SCHEME, is_tcp
from nomaflow_project.models.kernel_addresses import unfit_socket
from nomaflow_project.reading.regular_files import reason_of

_PROBE_SECONDS = 2.0


class AddressRefused(Exception):
    """Raised when an address or a directory must not be used; the text gives the reason and the way out."""


class AddressInUse(Exception):
    """Raised when another process answers on an address already."""


class AddressAway(Exception):
    """Raised when this machine does not have an address now, and may get it, as a machine does that starts."""


class AddressUntold(Exception):
    """Raised when the file that tells others the address cannot be written; the text gives cause and way out."""


def default_socket(project: Path, environ: Mapping[str, str]) -> str:
    """Return the address of a project's own Unix socket; its directory is created with mode 0700.

    If the path in the project is too long for a socket, or not usable as an address, the socket is in a private
    directory of the user.

    :raises AddressRefused: if that directory is not this user's, cannot be created, or has too long a path
    """
    own = project / ".nomaflow" / "run" / "kernel.sock"
    if unfit_socket(str(own)) is None:
        private_directory(own.parent)
        return f"unix:{own}"
    runtime = environ.get("XDG_RUNTIME_DIR")
    directory = Path(runtime) / "nomaflow" if runtime else Path(f"/tmp/nomaflow-{os.geteuid()}")  # noqa: S108  # its owner and mode are checked
    private_directory(directory)
    name = hashlib.sha256(os.fsencode(project)).hexdigest()[:16]
    path = f"{directory / name}.sock"
    if told := unfit_socket(path):
        raise AddressRefused("; ".join(told))
    return f"unix:{path}"


def private_directory(path: Path) -> None:
    """Create a directory that only this user can enter, or make an existing one private.

    :raises AddressRefused: if it belongs to somebody else, is not a directory, or cannot be created
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise AddressRefused(
                f"{str(path)!r} does not belong to this user or is not a directory; run the kernel as its owner, "
                "change its owner, or choose another address"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise AddressRefused(f"cannot make the directory {str(path)!r}: {reason_of(error)}") from None


def refuse_answered(address: str) -> None:
    """Check that nobody answers on a Unix socket; nothing is changed.

    :raises AddressInUse: if somebody answers, or if that is unknown
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(address.removeprefix("unix:"))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as error:
            raise AddressInUse(f"cannot tell whether a kernel listens on {address!r}: {error}") from None
    raise AddressInUse(f"another kernel listens on {address!r} already; stop that one first")


def claim_socket(address: str) -> None:
    """Make sure that a Unix socket can be bound: remove the socket of a dead kernel.

    :raises AddressInUse: if somebody answers on it
    :raises AddressRefused: if the path is not a socket, or its directory is open to others
    """
    path = Path(address.removeprefix("unix:"))
    _check_private(path.parent)
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket() or path.is_symlink():
        raise AddressRefused(f"{str(path)!r} exists and is not a socket; remove it, or choose another address")
    refuse_answered(address)
    path.unlink(missing_ok=True)


def _check_private(directory: Path) -> None:
    """Check the directory, the only guard of a Unix socket: gRPC makes the socket itself open to all."""
    try:
        found = directory.stat()
    except OSError as error:
        raise AddressRefused(f"cannot use the directory {str(directory)!r} for a socket: {reason_of(error)}") from None
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise AddressRefused(
            f"the directory {str(directory)!r} is accessible to other users, who could use a socket in it; "
            f"run `chmod 700 {directory}`, or choose another address"
        )


def publish_address(file: Path, address: str) -> None:
    """Write the file that tells clients and hosts the address, atomically.

    :raises AddressUntold: if it cannot be written
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        if file.is_file() and file.read_text(encoding="utf-8") == address + "\n":
            return  # a killed kernel left it, and the disk may have no room for another
        draft.write_text(address + "\n", encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise AddressUntold(
            f"cannot write {str(file)!r}: {reason_of(error)}; "
            "hosts and clients find the kernel by that file; check its directory and the free disk space"
        ) from None


def forget_address(file: Path, address: str) -> None:
    """Remove the file, unless it holds the address of another kernel by now."""
    with contextlib.suppress(OSError):
        if file.read_text(encoding="utf-8").strip() == address:
            file.unlink()


def why_not_listened(address: str) -> Exception:
    """Return the error for an address that gRPC could not listen on; the system itself says why."""
    told = f"cannot listen on {address!r}"
    if not is_tcp(address):
        return AddressAway(f"{told}: {_why_not_bound(address)}; look at its directory and the free disk space")
    host, _, port = address.removeprefix(TLS_SCHEME).rpartition(":")
    name = host.removeprefix("[").removesuffix("]")
    try:
        for family, kind, protocol, _, place in socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(place)
    except socket.gaierror as error:
        why = f"the name {name!r} is not known here ({str(error.strerror).lower()})"
        return AddressAway(f"{told}: {why}; correct it, or this machine's DNS")
    except PermissionError:
        return AddressRefused(f"{told}: permission denied; choose a port above 1023, those below are for root")
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return AddressAway(f"{told}: {reason_of(error)}; correct it, or give this machine that address")
    return AddressInUse(f"{told}: the port is taken; stop what listens there, or choose another")


def _why_not_bound(address: str) -> str:
    path = address.removeprefix("unix:")
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(path)
    except OSError as error:
        return reason_of(error)
    os.unlink(path)
    return "it could not be bound a moment ago"
