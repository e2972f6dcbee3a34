"""The file with the token that a kernel on TCP asks for."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from nomaflow_host.process.errors import ProjectError

__all__ = ["TokenFile"]

_log = logging.getLogger(__name__)


_FIX = "name the file that holds the kernel's token"


class TokenFile:
    """Reads the token again each time, so that it can be replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._complaint = ""

    def check(self) -> None:
        """Check the file as it is now.

        :raises ProjectError: if it holds no token or an invalid one, or others may read it
        """
        self._token()

    def read(self) -> str:
        """Return the token, or an empty text if there is none; the reason is logged once."""
        try:
            token = self._token()
        except ProjectError as error:
            if self._path.exists() and self._complaint != str(error):
                _log.warning("no token is sent to the kernel: %s", error)
            self._complaint = str(error)
            return ""
        self._complaint = ""
        return token

    def _token(self) -> str:
        try:
            found = self._path.stat()
            token = self._path.read_text("utf-8").strip()
        except OSError as error:
            why = (error.strerror or type(error).__name__).lower()
            raise ProjectError(f"the token's file cannot be read: {why}", file=str(self._path), fix=_FIX) from None
        except UnicodeDecodeError:
            token = ""
        if not token:
            raise ProjectError("there is no token in it", file=str(self._path), fix=_FIX)
        mode = stat.S_IMODE(found.st_mode)
        # As for the kernel's key: this user's file must be for this user alone, root's may also be for a group.
        if mode & (0o077 if found.st_uid == os.geteuid() != 0 else 0o027):
            fix = f"run `chmod 600 {self._path}`, and replace the token where others may have read it"
            raise ProjectError(f"the token is open to others (mode {mode:o})", file=str(self._path), fix=fix)
        if not (token.isascii() and token.isprintable()):
            fix = "write the kernel's token into it, one line as it is in the kernel's own file"
            raise ProjectError("its content is not a token", file=str(self._path), fix=fix)
        return token
