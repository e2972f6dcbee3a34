"""The kernel's own authority: it issues the certificates of the kernel's doors and of hosts.

Import this module only if a TCP address is listened on: ``cryptography`` takes a while to load.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from nomaflow_api.addresses import HOST_URI
from nomaflow_api.private_file import write_private
from nomaflow_kernel.network.certificates import CertificateRefused, check_certificate, read_key
from nomaflow_kernel.network.host_proofs import PublicKey, requested_key
from nomaflow_kernel.network.socket_place import private_directory

_LOG = logging.getLogger(__name__)
_AUTHORITY_DAYS, _SERVER_DAYS, _HOST_DAYS = 3652, 90, 30
_BACKDATED = timedelta(days=2)  # a host whose clock is a day behind must find them valid
_MOST_OLDER = 8
"""The most replaced authorities that are still trusted: each is a certificate in every handshake."""
_AUTHORITY_WARNING = timedelta(days=180)


class SignedCertificate(Struct, frozen=True, kw_only=True):
    """A host's new certificate.

    :param chain_pem: the certificate, then those between it and older authorities
    :param serial: hexadecimal
    :param not_after_us: when it ends, in microseconds since 1970
    """

    chain_pem: str
    serial: str
    not_after_us: int


@dataclass(frozen=True, kw_only=True)
class _Held:
    """The contents of ``authority.pem``: one file, so that a crash while it is replaced leaves the old one whole.

    :param crosses: the current authority and those before it, each signed by the one before
    :param older: authorities that are still trusted
    """

    key: ec.EllipticCurvePrivateKey
    own: x509.Certificate
    crosses: tuple[x509.Certificate, ...] = ()
    older: tuple[x509.Certificate, ...] = ()


class Authority:
    """The authority of a kernel, in a folder; made at first use. Any thread may use it.

    The folder has ``authority.pem`` (the key and the certificates), ``authorities.pem`` (for those who trust it) and
    the pair that the doors serve, ``server.pem`` and ``server.key``.

    :param names: host names and addresses that others dial; this machine's own are added
    :param now: returns seconds since 1970
    :raises CertificateRefused: if a file is damaged, or others can read a key
    :raises CannotStart: if the folder is not this user's
    :raises OSError: if a file cannot be written
    """

    def __init__(self, folder: Path, *, names: Iterable[str] = (), now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._guard = threading.Lock()
        self._file, self._exported = folder / "authority.pem", folder / "authorities.pem"
        self.cert, self.key = folder / "server.pem", folder / "server.key"
        self._names = _server_names(names)
        private_directory(folder)
        made = not self._file.exists()
        self._held = self._made() if made else self._read()
        if made:
            write_private(self._file, _bundle(self._held))
            _LOG.info("made an authority of this kernel's own in %s, %s", folder, self.fingerprint)
        elif self.expires_at - self._time() < _AUTHORITY_WARNING:
            _LOG.warning(
                "this kernel's authority ends on %s; run `nomaflow pki replace`", f"{self.expires_at:%Y-%m-%d}"
            )
        write_private(self._exported, self.authorities_pem.encode())
        if not self._serves():
            self._issue()

    @property
    def authorities_pem(self) -> str:
        """The authorities that vouch for the kernel and for hosts, PEM, the newest first."""
        return _pem((self._held.own, *self._held.older))

    @property
    def own_pem(self) -> str:
        """The newest authority alone, PEM."""
        return _pem((self._held.own,))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the newest authority: ``sha256:`` and 64 hexadecimal digits."""
        return f"sha256:{self._held.own.fingerprint(hashes.SHA256()).hex()}"

    @property
    def expires_at(self) -> datetime:
        """The end of the newest authority."""
        return self._held.own.not_valid_after_utc

    def check_request(self, csr_pem: str) -> None:
        """Check that a signing request can be used.

        :raises SigningRefused: if it cannot
        :raises CertificateRefused: if the authority itself has ended
        """
        self._check_end()
        requested_key(csr_pem)

    def sign_host(self, csr_pem: str, host: str, *, seconds: int = 0) -> SignedCertificate:
        """Return a certificate for the key of a signing request, which names a host. Names in the request do not count.

        :param seconds: how long it lasts; 0 for 30 days
        :raises SigningRefused: if the request cannot be used
        :raises CertificateRefused: if the authority itself has ended
        """
        self._check_end()
        key = requested_key(csr_pem)
        held, uri = self._held, x509.UniformResourceIdentifier(f"{HOST_URI}{host}")
        lasts = timedelta(seconds=seconds) if seconds else timedelta(days=_HOST_DAYS)
        signed = self._signed(held, key, _named(host), [uri], lasts=lasts, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        return SignedCertificate(
            chain_pem=_pem((signed, *held.crosses)),
            serial=f"{signed.serial_number:x}",
            not_after_us=int(signed.not_valid_after_utc.timestamp()) * 1_000_000,
        )

    def renew(self) -> None:
        """Make a new certificate for the doors.

        :raises CertificateRefused: if the authority itself has ended
        :raises OSError: if it cannot be written
        """
        with self._guard:
            self._issue()

    def renew_if_due(self) -> None:
        """Make a new certificate for the doors if two thirds of the present one's lifetime are over.

        :raises CertificateRefused: if the authority itself has ended
        :raises OSError: if it cannot be written
        """
        with self._guard:
            if not self._serves():
                self._issue()

    def replace(self, request: str = "") -> None:
        """Make a new authority. The old one vouches for it, and stays trusted until it ends; its key is forgotten.

        Of those before it, the eight newest stay trusted.

        :param request: the call that a repeat repeats, whose authority is made once; empty for none
        :raises OSError: if the new one cannot be written: the old one stays
        """
        with self._guard:
            name = _authority_name(request)
            if all(each.subject != name for each in (self._held.own, *self._held.older)):
                self._succeed(name)
            write_private(self._exported, self.authorities_pem.encode())
            self._issue()

    def _succeed(self, name: x509.Name) -> None:
        old, now = self._held, self._time()
        key = ec.generate_private_key(ec.SECP256R1())
        crossing = _authority(key.public_key(), name, now).issuer_name(old.own.subject)
        crossed = _sign(crossing.not_valid_after(max(old.own.not_valid_after_utc, now)), old)
        crosses = tuple(each for each in (crossed, *old.crosses) if each.not_valid_after_utc > now)
        older = tuple(each for each in (old.own, *old.older) if each.not_valid_after_utc > now)
        new = _Held(key=key, own=_self_signed(key, name, now), crosses=crosses[:_MOST_OLDER], older=older[:_MOST_OLDER])
        write_private(self._file, _bundle(new))
        self._held = new
        _LOG.info("the authority was replaced; the new one is %s", self.fingerprint)

    def _made(self) -> _Held:
        key = ec.generate_private_key(ec.SECP256R1())
        return _Held(key=key, own=_self_signed(key, _authority_name(), self._time()))

    def _read(self) -> _Held:
        text = read_key(self._file)
        try:
            key = serialization.load_pem_private_key(text, None)
            own, *others = x509.load_pem_x509_certificates(text)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise self._damaged("it does not hold a key and its certificate") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or own.public_key() != key.public_key():
            raise self._damaged("its key does not belong to its certificate")
        if own.not_valid_after_utc <= self._time():
            raise self._damaged(f"it ended on {own.not_valid_after_utc:%Y-%m-%d}; look at this machine's clock too")
        older = tuple(
            each for each in others if each.issuer == each.subject and each.not_valid_after_utc > self._time()
        )
        crosses = tuple(each for each in others if each.issuer != each.subject)
        return _Held(key=key, own=own, crosses=crosses, older=older)

    def _damaged(self, why: str) -> CertificateRefused:
        return CertificateRefused(
            f"the authority in {str(self._file)!r} cannot be used: {why}; restore it from a backup, or remove its "
            "folder for a new authority, which every host and client must then join again"
        )

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)

    def _serves(self) -> bool:
        """Return whether the doors' pair is whole, of this authority, for all names, and in its first two thirds."""
        try:
            check_certificate(self.cert, self.key)
            found = x509.load_pem_x509_certificate(self.cert.read_bytes())
            found.verify_directly_issued_by(self._held.own)
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (CertificateRefused, OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        begun, ends = found.not_valid_before_utc + _BACKDATED, found.not_valid_after_utc
        return set(names) == set(self._names) and self._time() < begun + (ends - begun) * 2 / 3

    def _check_end(self) -> None:
        if self.expires_at <= self._time():
            raise CertificateRefused(
                f"this kernel's authority ended on {self.expires_at:%Y-%m-%d}; look at this machine's clock, or run "
                "`nomaflow pki replace`, after which every host and client must join again"
            )

    def _issue(self) -> None:
        self._check_end()
        key, held = ec.generate_private_key(ec.SECP256R1()), self._held
        signed = self._signed(
            held, key.public_key(), _named("nomaflow kernel"), self._names,
            lasts=timedelta(days=_SERVER_DAYS), usage=ExtendedKeyUsageOID.SERVER_AUTH,
        )  # fmt: skip
        write_private(self.key, _key_pem(key))
        write_private(self.cert, _pem((signed, *held.crosses)).encode())

    def _signed(
        self,
        held: _Held,
        key: PublicKey,
        subject: x509.Name,
        names: Sequence[x509.GeneralName],
        *,
        lasts: timedelta,
        usage: x509.ObjectIdentifier,
    ) -> x509.Certificate:
        now = self._time()
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(held.own.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(min(now + lasts, held.own.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        return _sign(built, held)


def _server_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """Return the names of the doors' certificate, each once."""
    found: dict[str, x509.GeneralName] = {}
    for name in (*names, "localhost", "127.0.0.1", "::1", socket.gethostname()):
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            if name.isascii() and name:
                found[name.lower()] = x509.DNSName(name.lower())
        else:
            if not address.is_unspecified:
                found[str(address)] = x509.IPAddress(address)
    return list(found.values())


def _authority_name(request: str = "") -> x509.Name:
    """Return the name of the authority that a request makes: always the same one, and a random one if it is empty."""
    digits = hashlib.sha256(request.encode()).hexdigest()[:16] if request else secrets.token_hex(8)
    return _named(f"nomaflow authority {digits}")


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _authority(key: ec.EllipticCurvePublicKey, name: x509.Name, now: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _self_signed(key: ec.EllipticCurvePrivateKey, name: x509.Name, now: datetime) -> x509.Certificate:
    built = _authority(key.public_key(), name, now).issuer_name(name)
    return built.not_valid_after(now + timedelta(days=_AUTHORITY_DAYS)).sign(key, hashes.SHA256())


def _sign(built: x509.CertificateBuilder, held: _Held) -> x509.Certificate:
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(held.key.public_key())
    return built.add_extension(issuer, critical=False).sign(held.key, hashes.SHA256())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _bundle(held: _Held) -> bytes:
    return _key_pem(held.key) + _pem((held.own, *held.crosses, *held.older)).encode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificates: Iterable[x509.Certificate]) -> str:
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in certificates)
