"""Errors in connectors.toml, and in the names that a callable asks for."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ConnectorUnknown", "ConnectorUnusable", "ConnectorsError"]


class ConnectorsError(Exception):
    """Raised when connectors.toml, or something in it, cannot be used. Its text never holds a value of the file.

    :ivar file: the file; empty if the error is not about a file
    :ivar path: place in the file, such as ``pools.default.url``
    :ivar problem: the sentence without file and path
    """

    def __init__(self, problem: str, *, file: str = "", path: str = "") -> None:
        """Name the file, the place and the problem."""
        super().__init__(": ".join(part for part in (file, path, problem) if part))
        self.file = file
        self.path = path
        self.problem = problem


class ConnectorUnusable(ConnectorsError):
    """Raised when a callable uses an entry of connectors.toml that has an error."""

    def __init__(self, what: str, name: str, reason: str) -> None:
        """Name the entry and why it cannot be used."""
        super().__init__(f"the {what} {name!r} cannot be used: {reason}")


class ConnectorUnknown(ConnectorsError, LookupError):
    """Raised when a callable asks for a pool, connector, query or endpoint that connectors.toml does not have."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        """Name the entry asked for and the known ones."""
        names = sorted(known)
        near = difflib.get_close_matches(str(name), names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        listed = ", ".join(map(repr, names)) or "none"
        super().__init__(f"there is no {what} {name!r} ({hint}known: {listed})")
