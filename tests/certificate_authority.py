"""A certificate authority for the suite: issues the certificates that tests need, even unacceptable ones."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Pair"]

_SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its key, in files."""

    cert: Path
    key: Path

    @property
    def flags(self) -> tuple[str, ...]:
        """The kernel's options for these files."""
        return ("--tls-cert", str(self.cert), "--tls-key", str(self.key))

    def become(self, other: Pair) -> None:
        """Take the content of another pair, as renewing programs do: the key first, the certificate after it."""
        for mine, theirs in ((self.key, other.key), (self.cert, other.cert)):
            draft = mine.with_suffix(".new")
            draft.touch(mode=0o600)
            draft.write_bytes(theirs.read_bytes())
            draft.replace(mine)


class Authority:
    """An authority whose certificate is in a file.

    :param folder: of everything that it issues
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        built = _builder(self._name, self._name, self._key.public_key(), timedelta(days=30))
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        built = built.add_extension(_SIGNS_CERTIFICATES, critical=True)
        signed = built.add_extension(identifier, critical=False).sign(self._key, hashes.SHA256())
        self.file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *names: str,
        ends_in: timedelta = timedelta(days=30),
        begins_in: timedelta = timedelta(days=-60),
        password: bytes = b"",
    ) -> Pair:
        """Return a new pair for host names and addresses.

        :param name: of its files
        """
        key = ec.generate_private_key(ec.SECP256R1())
        built = _builder(_name(name), self._name, key.public_key(), ends_in, begins_in)
        alternatives = x509.SubjectAlternativeName([_general_name(each) for each in names])
        signed = self._sign(built.add_extension(alternatives, critical=False))
        pair = Pair(cert=self._folder / f"{name}.crt", key=self._folder / f"{name}.key")
        pair.cert.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        pair.key.touch(mode=0o600)
        hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden))
        return pair

    def sign_host(
        self,
        csr_pem: str,
        host: str,
        *,
        ends_in: timedelta = timedelta(days=30),
        begins_in: timedelta = timedelta(seconds=0),
    ) -> str:
        """Return the certificate of a host for its signing request, PEM, as the kernel's own authority makes it."""
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        built = _builder(_name(host), self._name, csr.public_key(), ends_in, begins_in)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"nomaflow:host:{host}")])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        signed = built.add_extension(names, critical=False).add_extension(usage, critical=False)
        return self._sign(signed).public_bytes(serialization.Encoding.PEM).decode()

    def _sign(self, built: x509.CertificateBuilder) -> x509.Certificate:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return built.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    ends_in: timedelta,
    begins_in: timedelta = timedelta(days=-60),
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins_in)
        .not_valid_after(now + ends_in)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
