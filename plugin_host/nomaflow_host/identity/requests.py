"""Signing requests and the certificates that answer them. Loads the library for cryptography when called."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from nomaflow_api.addresses import HOST_URI
from nomaflow_host.process.errors import NotJoined


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningRequest:
    """A signing request and the new key that it was made with, PEM."""

    csr: str
    key: str = field(repr=False)


class CertificateFacts(Struct, frozen=True, kw_only=True):
    """The facts about its certificate that a host needs.

    :param serial: hexadecimal
    :param issued_at: seconds since the epoch; ``expires_at`` likewise
    """

    serial: str
    issued_at: int
    expires_at: int


def signing_request(host: str) -> SigningRequest:
    """Make a key, P-256, and a signing request for a host's name."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{HOST_URI}{host}")])
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    return SigningRequest(
        csr=csr.public_bytes(serialization.Encoding.PEM).decode("ascii"),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii"),
    )


def read_certificate(chain: str, *, host: str, key: str) -> CertificateFacts:
    """Read the certificate that a kernel has sent.

    :param chain: PEM, the host's own first
    :param key: PEM, the one of the request
    :raises NotJoined: if it is not for this host and this key
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        certificate = x509.load_pem_x509_certificates(chain.encode())[0]
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        named = names.get_values_for_type(x509.UniformResourceIdentifier)
        fits = certificate.public_key() == load_pem_private_key(key.encode(), password=None).public_key()
    except (ValueError, x509.ExtensionNotFound):
        raise NotJoined("the kernel has sent something that is not a host's certificate") from None
    if not fits or named != [f"{HOST_URI}{host}"]:
        raise NotJoined(f"the kernel has sent a certificate that is not for host {host!r} and its key")
    return CertificateFacts(
        serial=f"{certificate.serial_number:x}",
        issued_at=int(certificate.not_valid_before_utc.timestamp()),
        expires_at=int(certificate.not_valid_after_utc.timestamp()),
    )
