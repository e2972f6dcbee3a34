"""The certificates of the TCP doors: issued by the kernel's own authority, or given by the operator."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from nomaflow_api.addresses import host_and_port
from nomaflow_kernel.network.certificates import CertificateFiles, CertificateRefused
from nomaflow_kernel.network.door_addresses import DoorAddresses
from nomaflow_kernel.process.settings import KernelSettings
from nomaflow_project.reading.regular_files import reason_of

if TYPE_CHECKING:
    from nomaflow_kernel.network.authority import Authority

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 3600.0


class DoorCertificates(Struct, frozen=True, kw_only=True):
    """The certificates that the TCP doors show, and the authorities that the hosts' door trusts.

    :param own: the pair of the kernel's own authority, for the hosts' door, and for the others without a given one
    :param given: the operator's pair for clients and joining; None if there is none
    :param given_ca: the authorities that vouch for it, PEM; empty if callers' systems know them
    """

    authority: Authority
    own: CertificateFiles
    given: CertificateFiles | None = None
    given_ca: str = ""

    @property
    def for_clients(self) -> CertificateFiles:
        """The pair that clients and those who join see."""
        return self.given or self.own

    @property
    def client_authorities_pem(self) -> str:
        """The authorities that vouch for the clients' door, PEM; empty if callers' systems know them."""
        return self.authority.authorities_pem if self.given is None else self.given_ca

    @property
    def join_authorities_pem(self) -> str:
        """The authorities in a join string, PEM: only the newest of the kernel's own, to keep the string short."""
        return self.authority.own_pem if self.given is None else self.given_ca

    async def keep_fresh(self) -> None:
        """Renew the own pair whenever two thirds of its lifetime are over, without end."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await asyncio.to_thread(self.authority.renew_if_due)
            except (OSError, CertificateRefused) as error:
                _LOG.error("the kernel's certificate could not be renewed, trying again in an hour: %s", error)


def door_certificates(settings: KernelSettings, addresses: DoorAddresses) -> DoorCertificates | None:
    """Return the certificates of the TCP doors; None if there is no such door.

    :raises CertificateRefused: if one cannot be used, or the files of the kernel's own authority cannot be written
    """
    if not addresses.on_tcp:
        return None
    # Imported here: a kernel without TCP needs no authority, and cryptography takes a while to load.
    from nomaflow_kernel.network.authority import Authority

    given = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        given = CertificateFiles(cert=settings.tls_cert, key=settings.tls_key)
    given_ca = _read_authorities(settings.tls_ca) if settings.tls_ca is not None else ""
    dialled = (*addresses.on_tcp, *addresses.reached(settings).on_tcp)
    names = [found[0].strip("[]") for found in map(host_and_port, dialled) if found is not None]
    folder = settings.state_dir / "pki"
    try:
        authority = Authority(folder, names=names)
    except OSError as error:
        why = f"cannot keep this kernel's authority in {str(folder)!r}: {reason_of(error)}"
        raise CertificateRefused(why) from None
    own = CertificateFiles(cert=authority.cert, key=authority.key)
    return DoorCertificates(authority=authority, own=own, given=given, given_ca=given_ca)


def _read_authorities(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (OSError, ValueError):
        raise CertificateRefused(
            f"the authorities in {str(path)!r} (tls_ca) cannot be read; expected PEM, -----BEGIN CERTIFICATE-----"
        ) from None
    return text
