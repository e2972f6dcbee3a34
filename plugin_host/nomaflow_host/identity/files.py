"""The file of a host's identity: written as a whole, read at each connection."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from nomaflow_api.private_file import locked, mode_open_to_others, write_private
from nomaflow_host.process.errors import NotJoined, StateUnwritable
from nomaflow_project.reading.regular_files import reason_of


class Identity(Struct, frozen=True, kw_only=True):
    """The certificate that a host shows to a kernel, and the authorities that it trusts.

    :param host: the name that the certificate proves
    :param kernel_id: the random id of the history of the kernel that it has joined
    :param addresses: of that kernel's hosts' door, ``tls://HOST:PORT`` each
    :param serial: the certificate's number, hexadecimal
    :param issued_at: seconds since the epoch; ``expires_at`` likewise
    :param joined_with: SHA-256 of the join string, hexadecimal
    :param joined_at: of that kernel's joining door, ``tls://HOST:PORT`` each
    :param joining_authorities: the authorities that vouch for the joining door, PEM; empty if the system knows them
    :param instance: the one instance that the certificate is for; empty for a whole host's, which is renewed
    :param key: PEM; ``certificate``, with those between it and its root, and ``authorities`` likewise
    """

    host: str
    kernel_id: str
    addresses: tuple[str, ...]
    serial: str
    issued_at: int
    expires_at: int
    joined_with: str
    joined_at: tuple[str, ...] = ()
    joining_authorities: str = ""
    instance: str = ""
    key: str
    certificate: str
    authorities: str

    @property
    def good_until(self) -> str:
        """The end of the certificate, for a person."""
        return datetime.fromtimestamp(self.expires_at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")

    def __repr__(self) -> str:
        return f"the certificate {self.serial} of host {self.host}, good until {self.good_until}"


class IdentityFile:
    """Reads and replaces a host's identity. A crash leaves the old one or the new one, whole.

    :param path: ``DIR/.nomaflow/identity.json``; need not exist
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """True if the host has joined a kernel."""
        return os.path.exists(self.path)  # False, too, if another user has the folder

    def read(self) -> Identity:
        """Return the identity as it is now.

        :raises NotJoined: if there is none, or it cannot be used
        """
        try:
            identity = msgspec.json.decode(self.path.read_bytes(), type=Identity)
            self._check_mode()
            _check_pems(identity)
        except FileNotFoundError:
            raise NotJoined("this host has not joined a kernel") from None
        except (ValueError, ssl.SSLError, msgspec.MsgspecError):
            raise NotJoined(f"this host's identity in {str(self.path)!r} is damaged") from None
        except OSError as error:
            why = f"this host's identity in {str(self.path)!r} cannot be read: {reason_of(error)}"
            raise NotJoined(why) from None
        return identity

    def write(self, identity: Identity) -> None:
        """Keep an identity in place of the previous one.

        :raises StateUnwritable: if it cannot be written; the previous one is still there then
        """
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            with self._alone():
                self._replace(identity)
        except OSError as error:
            raise StateUnwritable(self.path, error) from None

    def keep_addresses(self, addresses: Sequence[str]) -> None:
        """Replace the kernel's addresses. The rest stays as it is now: another process may have renewed it.

        :raises NotJoined: if there is no usable identity
        :raises StateUnwritable: if they cannot be written; the previous ones are still there then
        """
        try:
            with self._alone():
                self._replace(structs.replace(self.read(), addresses=tuple(addresses)))
        except OSError as error:
            raise StateUnwritable(self.path, error) from None

    def _replace(self, identity: Identity) -> None:
        write_private(self.path, msgspec.json.format(msgspec.json.encode(identity), indent=1))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes, such as a host that runs or one that joins, from replacing the identity meanwhile."""
        number = locked(self.path.with_suffix(".lock"), waits=True)
        try:
            yield
        finally:
            os.close(number)

    def _check_mode(self) -> None:
        if mode := mode_open_to_others(self.path):
            raise NotJoined(
                f"the key in {str(self.path)!r} is open to others (mode {mode}), who can attach as this host",
                fix=f"`nomaflow token revoke host:NAME` on the kernel's machine, then join again; "
                f"if nobody has read it: chmod 600 {self.path}",
            )


def _check_pems(identity: Identity) -> None:
    """Check key, certificate and authorities. OpenSSL does it here: cryptography takes 10 MB and 0.1 s to load.

    Without authorities gRPC would trust the system's, and an empty key would end the process.

    :raises ssl.SSLError: if the key is not the certificate's, or one of them is none
    :raises ValueError: if there are no authorities
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=identity.authorities)
    with os.fdopen(os.memfd_create("identity"), "wb", buffering=0) as pair:
        pair.write((identity.key + identity.certificate).encode())
        context.load_cert_chain(f"/proc/self/fd/{pair.fileno()}", password=lambda: "")
