"""Join strings: the one text that lets a host, a user or a service join a kernel over TCP."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import ssl
import sys
from dataclasses import dataclass, field
from typing import Any

from nomaflow_api.addresses import host_and_port, is_tcp

JOIN_PREFIX = "nfj1."
KINDS = ("user", "service", "host")
_VERSION = 1
_LONGEST, _MOST_READ = 65_536, 100_000
_SECRET = re.compile(r"[\x21-\x7e]{1,512}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,127}")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class JoinStringError(ValueError):
    """Raised when a text is no join string; the error says what was expected, and never repeats the text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinString:
    """The content of a join string.

    :param at: addresses of the joining door, ``tls://HOST:PORT`` each, at least one
    :param authorities_pem: the authorities that vouch for that door, PEM; empty where the system knows them
    :param kind: ``user``, ``service`` or ``host``
    :param name: of the user, the service or the host
    :param secret: for ``Enrol``
    """

    at: tuple[str, ...]
    authorities_pem: str = ""
    kind: str
    name: str
    secret: str = field(repr=False)

    def encode(self) -> str:
        """Return the join string: ``nfj1.`` and base64url of JSON, one line."""
        value = {
            "v": _VERSION,
            "at": list(self.at),
            "ca": [_base64(ssl.PEM_cert_to_DER_cert(each)) for each in _CERTIFICATE.findall(self.authorities_pem)],
            "kind": self.kind,
            "name": self.name,
            "secret": self.secret,
        }
        return JOIN_PREFIX + _base64(json.dumps(value, separators=(",", ":")).encode())

    @classmethod
    def read(cls, file: str) -> JoinString:
        """Read the join string in a file; ``-`` is standard input.

        :raises OSError: if the file cannot be read
        :raises JoinStringError: if it holds none
        """
        try:
            with contextlib.nullcontext(sys.stdin) if file == "-" else open(file, encoding="utf-8") as opened:
                return cls.decode(opened.read(_MOST_READ))
        except UnicodeDecodeError:
            raise JoinStringError(f"{file!r} holds no join string") from None

    @classmethod
    def decode(cls, text: str) -> JoinString:
        """Read a join string; white space around it does not matter.

        :raises JoinStringError: if it is not whole, or was made by a later version
        """
        text = text.strip()
        if text.startswith("nft1."):
            raise JoinStringError("this is a token, which is ready for use, and no join string: --token-file FILE")
        if not text.startswith(JOIN_PREFIX):
            raise JoinStringError(f"this is no join string; expected a text that begins with {JOIN_PREFIX!r}")
        if len(text) > _LONGEST:
            raise JoinStringError(f"this is no join string: it has {len(text):,} characters, at most {_LONGEST:,}")
        try:
            value = json.loads(_bytes(text.removeprefix(JOIN_PREFIX)))
        except (ValueError, RecursionError):
            raise JoinStringError("the join string cannot be read; copy it again, whole and on one line") from None
        if not isinstance(value, dict) or value.get("v") != _VERSION:
            raise JoinStringError(
                "the join string is of another version; install the version of nomaflow that the kernel has"
            )
        return cls(
            at=_addresses(value.get("at")),
            authorities_pem=_authorities(value.get("ca")),
            kind=_matching(value, "kind", re.compile("|".join(KINDS))),
            name=_matching(value, "name", _NAME),
            secret=_matching(value, "secret", _SECRET),
        )


def certificates_in(pem: str) -> frozenset[str]:
    """Return the certificates of a PEM text, to compare them: white space and what is between them do not matter."""
    return frozenset("".join(each.split()) for each in _CERTIFICATE.findall(pem))


def _addresses(value: Any) -> tuple[str, ...]:
    good = isinstance(value, list) and all(
        isinstance(each, str) and is_tcp(each) and host_and_port(each) is not None for each in value
    )
    if not value or not good:
        raise _wrong("at")
    return tuple(value)


def _authorities(value: Any) -> str:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _wrong("ca")
    try:
        return "".join(ssl.DER_cert_to_PEM_cert(_bytes(each)) for each in value)
    except ValueError:
        raise _wrong("ca") from None


def _matching(value: dict[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    found = value.get(key)
    if not isinstance(found, str) or not pattern.fullmatch(found):
        raise _wrong(key)
    return found


def _wrong(key: str) -> JoinStringError:
    return JoinStringError(f"the join string is damaged at {key!r}; copy it again, or ask for a new one")


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("no base64") from None
