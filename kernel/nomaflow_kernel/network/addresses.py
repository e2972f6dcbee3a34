"""The addresses a kernel serves on and its certificate, from its settings: decided before anything listens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nomaflow_kernel.network.certificates import CertificateFiles
from nomaflow_kernel.network.listening import AddressRefused, check_address, default_socket, uses_tls
from nomaflow_kernel.process.settings import KernelSettings

__all__ = ["addresses_of", "certificate_of"]

_OWN_SOCKET = "unix:"


def addresses_of(settings: KernelSettings, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses to listen on, each checked.

    :raises AddressRefused: if one must not be used
    """
    given = settings.addresses or (_OWN_SOCKET,)
    addresses = tuple(default_socket(settings.project, environ) if each == _OWN_SOCKET else each for each in given)
    for address in addresses:
        check_address(address, has_certificate=settings.tls_cert is not None)
    return addresses


def certificate_of(settings: KernelSettings, addresses: Sequence[str]) -> CertificateFiles | None:
    """Return the certificate, or None.

    :raises AddressRefused: if no address uses it, since the user expects TLS
    :raises CertificateRefused: if it cannot be used
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    if not any(map(uses_tls, addresses)):
        raise AddressRefused(
            f"there is a certificate, and none of the addresses {', '.join(addresses)} uses it; "
            "write tls://HOST:PORT, or remove tls_cert and tls_key"
        )
    return CertificateFiles(cert=settings.tls_cert, key=settings.tls_key)
