"""A report on a kernel's certificate, for ``nomaflow doctor``."""

from __future__ import annotations

from msgspec import Struct

from nomaflow_kernel.network.certificates import CertificateRefused, check_certificate
from nomaflow_kernel.process.settings import KernelSettings


class CertificateReport(Struct, frozen=True, kw_only=True):
    """The facts in the files that a kernel would start with.

    :param path: path of the certificate, empty if there is none
    :param refused: why a kernel would not start with it, empty if it would
    :param expires_at: seconds since 1970
    """

    path: str = ""
    refused: str = ""
    names: tuple[str, ...] = ()
    expires_at: int = 0
    expires_soon: bool = False


def inspect_certificate(settings: KernelSettings) -> CertificateReport:
    """Return a report on the certificate in these settings, or else on that of the kernel's own authority."""
    own = settings.state_dir / "pki"
    cert, key = settings.tls_cert or own / "server.pem", settings.tls_key or own / "server.key"
    if settings.tls_cert is None and not cert.exists():
        return CertificateReport()
    path = str(cert)
    try:
        found = check_certificate(cert, key)
    except CertificateRefused as error:
        return CertificateReport(path=path, refused=str(error))
    return CertificateReport(path=path, names=found.names, expires_at=found.expires_at, expires_soon=found.expires_soon)
