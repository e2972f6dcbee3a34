"""The kernel's certificate and its key: read, checked, and read again when the files change."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nomaflow_api.private_file import mode_open_to_others
from nomaflow_kernel.domain.errors import CannotStart
from nomaflow_project.reading.regular_files import file_stamp, reason_of

_LOG = logging.getLogger(__name__)
_SOON_SECONDS = 14 * 86_400
_FILE_BYTES = 1 << 20
_EXPIRED, _NOT_YET_VALID = 10, 9  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED and X509_V_ERR_CERT_NOT_YET_VALID


class CertificateRefused(CannotStart):
    """Raised when a certificate or its key cannot be used; the text names the file, the rule and the way out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """A certificate that peers can verify now, with its key.

    :param chain: PEM; the kernel's own certificate first, then those of the authorities between it and the root
    :param key: PEM
    :param expires_at: seconds since 1970
    :param names: host names and addresses that it is valid for
    """

    chain: bytes
    key: bytes = field(repr=False)
    expires_at: int
    names: tuple[str, ...]

    @property
    def expires_soon(self) -> bool:
        """True in its last two weeks."""
        return self.expires_at - time.time() < _SOON_SECONDS


def check_certificate(cert: Path, key: Path) -> Certificate:
    """Return the contents of the two files.

    :raises CertificateRefused: if a file cannot be read or has other contents, others may read the key, the two do not
        belong together, or the certificate is expired or not valid yet
    """
    chain = _read(cert, "certificate")
    secret = read_key(key)
    names, expires_at = _verified(cert, key)
    return Certificate(chain=chain, key=secret, expires_at=expires_at, names=names)


class CertificateFiles:
    """The two files, read again when one of them has changed. Any thread may use it.

    :raises CertificateRefused: if they cannot be used now
    """

    def __init__(self, *, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self._guard = threading.Lock()
        self._stamp = self._look()
        self._current = check_certificate(cert, key)
        self._tell()

    def current(self) -> Certificate:
        """Return the pair in the files; if they cannot be used, the one that was there before.

        The files are replaced one after the other, so a pair that does not match is not an error yet: it is logged, the
        old pair stays, and the next change is checked again.
        """
        with self._guard:
            stamp, before = self._look(), self._current
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._current = check_certificate(self._cert, self._key)
                except CertificateRefused as error:
                    _LOG.warning("the certificate was not replaced: %s", error)
            if self._current != before:
                self._tell()
            return self._current

    def _tell(self) -> None:
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self._current.expires_at))
        level = logging.WARNING if self._current.expires_soon else logging.INFO
        names = ", ".join(self._current.names) or "no name"
        _LOG.log(level, "certificate %s for %s, valid until %s", self._cert, names, until)

    def _look(self) -> tuple[tuple[int, ...], ...]:
        return file_stamp(self._cert), file_stamp(self._key)


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_BYTES)
    except OSError as error:
        raise CertificateRefused(f"cannot read the {what} {str(path)!r}: {reason_of(error)}") from None


def read_key(path: Path) -> bytes:
    """Return the contents of a key's file, by PostgreSQL's rule, since both may share files.

    A key that this user owns must be readable by this user only; one that root owns may be readable by a group too.

    :raises CertificateRefused: if it cannot be read, or others can read it
    """
    text = _read(path, "key")
    found = path.stat()
    own = found.st_uid == os.geteuid()
    if mode := mode_open_to_others(path):
        wanted = "600" if own else "640"
        raise CertificateRefused(
            f"the key {str(path)!r} is open to others (mode {mode}); run `chmod {wanted} {path}`, "
            "and replace the key if others may have read it"
        )
    if not own and found.st_uid != 0:
        raise CertificateRefused(
            f"the key {str(path)!r} belongs to uid {found.st_uid}; expected this user, uid {os.geteuid()}, or root"
        )
    return text


def _verified(cert: Path, key: Path) -> tuple[tuple[str, ...], int]:
    """Return names and expiry of a certificate that a trusting peer accepts now, by a handshake in memory."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(server, cert, key)
    # The certificate itself is the root of trust here: the peers judge its issuer.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.check_hostname = False
    try:
        client.load_verify_locations(cafile=cert)
        found = _handshake(server, client)
    except ssl.SSLCertVerificationError as error:
        why = {_EXPIRED: "has expired", _NOT_YET_VALID: "is not valid yet"}.get(error.verify_code)
        fix = "renew it" if error.verify_code == _EXPIRED else "check it, and this machine's clock"
        said = why or f"is not valid: {error.verify_message}"
        raise CertificateRefused(f"the certificate {str(cert)!r} {said}; {fix}") from None
    except ssl.SSLError as error:
        raise CertificateRefused(f"the certificate {str(cert)!r} cannot be used: {_words(error)}") from None
    named = [(kind, value) for kind, value in found.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    names = tuple(value if kind == "DNS" else ipaddress.ip_address(value).compressed for kind, value in named)
    return names, int(ssl.cert_time_to_seconds(str(found["notAfter"])))


def _load(server: ssl.SSLContext, cert: Path, key: Path) -> None:
    def no_password() -> str:
        raise CertificateRefused(f"the key {str(key)!r} has a password; give one without, readable by this user only")

    try:
        server.load_cert_chain(cert, key, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"the key {str(key)!r} does not belong to the certificate {str(cert)!r}; name two files of one pair"
        else:
            text = (
                f"the certificate {str(cert)!r} and the key {str(key)!r} cannot be read as PEM ({_words(error)}); "
                "expected -----BEGIN CERTIFICATE----- in one and -----BEGIN PRIVATE KEY----- in the other"
            )
        raise CertificateRefused(text) from None
    except OSError as error:
        raise CertificateRefused(f"cannot read {str(cert)!r} or {str(key)!r}: {reason_of(error)}") from None


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """Return the server's certificate as a client sees it."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up)
    answering = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        with contextlib.suppress(ssl.SSLWantReadError):
            asking.do_handshake()
            return dict(asking.getpeercert() or {})
        with contextlib.suppress(ssl.SSLWantReadError):
            answering.do_handshake()
    raise AssertionError("a handshake in memory did not end")


def _words(error: ssl.SSLError) -> str:
    return (error.reason or "no PEM in it").lower().replace("_", " ")
