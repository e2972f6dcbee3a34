"""Errors in connectors.toml, and in the names that a callable asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomaflow_api.near_names import near_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nomaflow_project.connectors.connector_set import ConnectorSet


class ConnectorsError(Exception):
    """Raised when connectors.toml, or something in it, cannot be used. Its text never holds a value of the file."""

    def __init__(self, problem: str, *, path: str = "") -> None:
        """Name the place in the file, such as ``pools.default.url``, and the problem."""
        super().__init__(f"{path}: {problem}" if path else problem)


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
        near = near_name(str(name), names)
        hint = f"did you mean {near!r}? " if near else ""
        listed = ", ".join(map(repr, names)) or "none"
        super().__init__(f"there is no {what} {name!r} ({hint}known: {listed})")


def values_of(
    known: ConnectorSet, section: str, name: str, *, sought: str = "", named: Iterable[str] | None = None
) -> Mapping[str, Any]:
    """Return the values of one of the ``pools`` or ``connectors``.

    :param sought: noun for the error if there is no such entry; *named* are the names that it lists
    :raises ConnectorUnusable: if the file has it but it cannot be used
    :raises ConnectorUnknown: if the file does not have it
    """
    values: Mapping[str, Any] | None = getattr(known, section).get(name)
    if values is not None:
        return values
    noun = section.removesuffix("s")
    if reason := known.unusable.get(f"{section}.{name}") or known.unusable.get(""):
        raise ConnectorUnusable(noun, name, reason)
    raise ConnectorUnknown(sought or noun, name, known.names(section) if named is None else named)
