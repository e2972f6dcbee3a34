"""The console's secret: a file that only the project's owner can read, and the keys that follow from it."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from nomaflow_api.private_file import create_private
from nomaflow_console.settings import SettingsRefused

_BYTES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsoleSecret:
    """The secret of one project's console; whoever can read it can make login links and sessions."""

    value: bytes = field(repr=False)

    @classmethod
    def of(cls, folder: Path) -> ConsoleSecret:
        """Return the secret in ``console-secret`` of a folder, which is made if there is none.

        :raises SettingsRefused: if it cannot be read or made, or others than its owner can read it
        """
        file = folder / "console-secret"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not file.exists():
                create_private(file, secrets.token_bytes(_BYTES))
            found = file.stat()
            value = file.read_bytes()
        except OSError as error:
            what = f"the console's secret {str(file)!r} cannot be used: {(error.strerror or str(error)).lower()}"
            if isinstance(error, PermissionError):
                raise SettingsRefused(what, fix="run the console as the user whom the project belongs to") from None
            if isinstance(error, NotADirectoryError | FileExistsError):
                raise SettingsRefused(what, fix=f"{str(folder)!r} has to be a folder") from None
            raise SettingsRefused(what, fix="check that folder and its disk", exit_code=1) from None
        if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in (0, os.geteuid()):
            raise SettingsRefused(
                f"others can read the console's secret {str(file)!r}, or it is not yours",
                fix="delete it: a new one is made, and everybody logs in again",
            )
        if len(value) != _BYTES:
            raise SettingsRefused(
                f"the console's secret {str(file)!r} has {len(value)} bytes and not {_BYTES}",
                fix="delete it: a new one is made, and everybody logs in again",
            )
        return cls(value=value)

    @property
    def id(self) -> str:
        """The name of this console in its cookies and its host name: random, and the same after a restart."""
        return self.key("id")[:6].hex()

    @property
    def port(self) -> int:
        """A port of this console's own, from 20000 to 29999: below those that systems give to connections."""
        return 20_000 + int.from_bytes(self.key("port")[:4], "big") % 10_000

    def key(self, purpose: str) -> bytes:
        """Return 32 bytes for one purpose."""
        return hmac.digest(self.value, purpose.encode(), hashlib.sha256)

    def seal(self, purpose: str, data: bytes) -> bytes:
        """Return 16 bytes that only who knows the secret can make for these data."""
        return hmac.digest(self.key(purpose), data, hashlib.sha256)[:16]
