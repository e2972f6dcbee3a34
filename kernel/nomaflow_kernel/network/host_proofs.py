"""Proofs of a host: its certificate, and the signing request for one, as they are read.

Import this module only if a TCP address is listened on: ``cryptography`` takes a while to load.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from nomaflow_api.addresses import HOST_URI

_CSR_BYTES = 16_384
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class SigningRefused(ValueError):
    """Raised when a signing request cannot be read, does not prove its key, or has a weak one."""


@lru_cache(maxsize=4096)
def host_of(certificate_pem: bytes) -> tuple[str, str] | None:
    """Return the name of the host and the serial in a certificate that was verified; None if it names no host."""
    try:
        found = x509.load_pem_x509_certificate(certificate_pem)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or not uris[0].startswith(HOST_URI):
        return None
    return uris[0].removeprefix(HOST_URI), f"{found.serial_number:x}"


def requested_key(csr_pem: str) -> PublicKey:
    """Return the key of a signing request, which proves that its sender has it.

    :raises SigningRefused: if the request cannot be used
    """
    if len(csr_pem) > _CSR_BYTES:
        raise SigningRefused(f"the signing request has more than {_CSR_BYTES:,} characters")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        proven, key = request.is_signature_valid, request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        raise SigningRefused(
            "the signing request cannot be read; expected PEM, -----BEGIN CERTIFICATE REQUEST"
        ) from None
    if not proven:
        raise SigningRefused("the signing request is not signed with its own key")
    if isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 4096:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise SigningRefused(
        "the key of the signing request is not of an accepted kind; "
        "expected P-256, P-384, P-521, Ed25519, or RSA of 2048 to 4096 bits"
    )
