"""Encrypted values of a project's files: the keys, and the texts that they encrypt.

An encrypted text is ``ENC:`` and a Fernet token, which is AES-128 in CBC mode with an HMAC. Several keys may be given,
newest first: the first encrypts, all decrypt.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nomaflow_project.reading.regular_files import private_reason, read_regular

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

PREFIX = "ENC:"
KEY_VARIABLE = "NOMAFLOW_SECRET_KEY"
"""The variable with the keys; with ``_FILE``, the variable that names their file."""
CREDENTIAL = "nomaflow-secret-key"
"""The name of systemd's credential that holds the keys."""

_MAX_KEY_BYTES = 16 * 1024
_KEY_BYTES = 32
_SEPARATORS = re.compile(r"[\s,]+")
_GIVE_KEY = (
    "`nomaflow secret keygen` makes one; give its file as [host] secret_key_file or "
    f"{KEY_VARIABLE}_FILE, or as systemd's credential {CREDENTIAL!r}"
)


class Undecipherable(ValueError):
    """Raised when an encrypted text cannot be read.

    :ivar problem: one sentence, without the text
    :ivar fix: the way out
    """

    def __init__(self, problem: str, fix: str) -> None:
        """Take the problem and the way out."""
        super().__init__(f"{problem} ({fix})")
        self.problem = problem
        self.fix = fix


class NoKeys(Undecipherable):
    """Raised when there are no keys, or they cannot be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRing:
    """The keys of one project.

    :param keys: newest first, 32 bytes each
    :param source: where they are from, for messages
    """

    keys: tuple[bytes, ...] = field(repr=False)
    source: str

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of each key, newest first: it names a key and reveals nothing of it."""
        return tuple(hashlib.sha256(b"nomaflow key id\0" + key).hexdigest()[:12] for key in self.keys)

    def encrypt(self, value: str) -> str:
        """Return the encrypted text of a value, with ``ENC:``, by the newest key."""
        return PREFIX + self._fernets()[0].encrypt(value.encode("utf-8", "surrogateescape")).decode("ascii")

    def decrypt(self, token: str) -> str:
        """Return the value of an encrypted text.

        :param token: with or without ``ENC:``
        :raises Undecipherable: if it is malformed, or of another key
        """
        return self.opened(token)[0]

    def opened(self, token: str) -> tuple[str, str]:
        """Return the value of an encrypted text, and the id of its key.

        :raises Undecipherable: as `decrypt`
        """
        from cryptography.fernet import InvalidToken

        token = token.removeprefix(PREFIX)
        if _decoded(token)[:1] != b"\x80":
            raise Undecipherable(
                "an encrypted value (ENC:) is malformed, or not of `nomaflow secret`",
                "encrypt it again with `nomaflow secret set`, or write ${NAME}",
            )
        for fernet, name in zip(self._fernets(), self.ids, strict=True):
            try:
                return fernet.decrypt(token.encode("ascii")).decode("utf-8", "surrogateescape"), name
            except InvalidToken:
                continue
        count = "the key" if len(self.keys) == 1 else f"any of the {len(self.keys)} keys"
        raise Undecipherable(
            f"an encrypted value (ENC:) cannot be decrypted with {count} of {self.source} ({', '.join(self.ids)})",
            "add the key that encrypted it, or encrypt the value again with `nomaflow secret set`",
        )

    def _fernets(self) -> list[Fernet]:
        from cryptography.fernet import Fernet

        return [Fernet(base64.urlsafe_b64encode(key)) for key in self.keys]


def new_key() -> str:
    """Return a new key, as a key file holds it."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode("ascii")


def find_keys(root: Path, key_file: str, environ: Mapping[str, str]) -> KeyRing:
    """Return the keys of a project. The first of these sources that is given is used, alone.

    NOMAFLOW_SECRET_KEY, the file of NOMAFLOW_SECRET_KEY_FILE, that of ``[host] secret_key_file``, and systemd's
    credential ``nomaflow-secret-key``.

    :param root: the project's folder, which paths are relative to
    :param key_file: ``[host] secret_key_file``; empty for none
    :raises NoKeys: if there is none, or it cannot be used
    """
    if text := environ.get(KEY_VARIABLE):
        return ring_of(text, KEY_VARIABLE)
    for name, path in (
        (f"{KEY_VARIABLE}_FILE", environ.get(f"{KEY_VARIABLE}_FILE")),
        ("[host] secret_key_file", key_file),
    ):
        if path:
            return ring_of(_key_text(root / path, name), f"{name} ({path})")
    if folder := environ.get("CREDENTIALS_DIRECTORY"):
        file = Path(folder, CREDENTIAL)
        if file.exists():
            return ring_of(_key_text(file, f"credential {CREDENTIAL}"), f"systemd's credential {CREDENTIAL}")
    raise NoKeys("no key for encrypted values (ENC:) is given", _GIVE_KEY)


def _key_text(path: Path, name: str) -> str:
    try:
        return read_regular(path, limit=_MAX_KEY_BYTES, accept=private_reason).decode("ascii")
    except UnicodeDecodeError:
        reason = "it holds no key"
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "its name is not a path").lower()
    raise NoKeys(
        f"the key file of {name} ({str(path)!r}) cannot be read: {reason}", "correct the path, or chmod 600 the file"
    )


def ring_of(text: str, source: str) -> KeyRing:
    """Return the keys of a text: one a line, or separated by commas; lines with ``#`` are comments.

    :param source: where the text is from, for messages
    :raises NoKeys: if it holds none, or a malformed one
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    keys = []
    for number, part in enumerate(filter(None, _SEPARATORS.split("\n".join(lines))), start=1):
        key = _decoded(part)
        if len(key) != _KEY_BYTES:
            raise NoKeys(f"key {number} of {source} is malformed; expected 32 bytes in base64url", _GIVE_KEY)
        keys.append(key)
    if not keys:
        raise NoKeys(f"{source} holds no key", _GIVE_KEY)
    return KeyRing(keys=tuple(keys), source=source)


def _decoded(text: str) -> bytes:
    """Return the bytes of a text in base64url, none if it is something else."""
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
