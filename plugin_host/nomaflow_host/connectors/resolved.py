"""The resolved contents of connectors.toml. They hold credentials, which the repr never shows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from nomaflow_host.connectors.errors import ConnectorUnknown, ConnectorUnusable
from nomaflow_project.reading.credential_signs import url_passwords

if TYPE_CHECKING:
    from nomaflow_project.reading.environment import Values
    from nomaflow_project.reading.problems import Problem

_SECRET_KEYS = frozenset({"password", "token", "value", "client_secret"})
_SECRET_HEADER = re.compile(r"auth|token|key|secret|cookie", re.IGNORECASE)
_DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "postgres": "asyncpg"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedConnectors:
    """All pools and connectors of a project, with credentials.

    The host's main process makes it and hands it to workers over their socket; it is never logged or stored.

    :param root: the project's directory, which SQLite paths are relative to
    :param pools: the values of each usable pool
    :param connectors: the values of each usable connector
    :param unusable: why a pool (``pools.NAME``), a connector (``connectors.NAME``) or all of the file (empty) cannot
        be used, in a sentence
    :param secret_env_names: the variables that the file names; workers do not inherit them
    :param deferred: rows of placeholder, scheme and rest: references for plugins, resolved for each attempt
    :param told_secrets: the secrets that its references resolved to, wherever they are used
    """

    root: str = ""
    file: str = ""
    pools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    connectors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    unusable: Mapping[str, str] = field(default_factory=dict)
    secret_env_names: tuple[str, ...] = ()
    deferred: Sequence[Sequence[str]] = field(default_factory=list)
    told_secrets: Sequence[str] = field(default_factory=list, repr=False)
    problems: tuple[Problem, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """All credentials, sorted, for masking."""
        found: set[str] = set(self.told_secrets)
        for table in (*self.pools.values(), *self.connectors.values()):
            found |= _table_secrets(table)
        return tuple(sorted(found - {""}))

    def modules(self) -> tuple[str, ...]:
        """Return the modules that engines of these pools need; a template imports them before it forks workers."""
        if not self.pools:
            return ()
        backends = {pool["url"].partition(":")[0].partition("+")[0] for pool in self.pools.values()}
        return ("sqlalchemy.ext.asyncio", *sorted({_DRIVERS[each] for each in backends if each in _DRIVERS}))

    def names(self, section: str) -> tuple[str, ...]:
        """Return the names of all ``pools`` or ``connectors``, sorted, including those that cannot be used."""
        unusable = (path.partition(".")[2] for path in self.unusable if path.startswith(f"{section}."))
        return tuple(sorted({*getattr(self, section), *unusable}))

    def values(
        self, section: str, name: str, *, sought: str = "", known: Iterable[str] | None = None
    ) -> Mapping[str, Any]:
        """Return the values of one of the ``pools`` or ``connectors``.

        :param sought: noun for the error if there is no such entry; *known* are the names that it lists
        :raises ConnectorUnusable: if the file has it but it cannot be used
        :raises ConnectorUnknown: if the file does not have it
        """
        values: Mapping[str, Any] | None = getattr(self, section).get(name)
        if values is not None:
            return values
        noun = section.removesuffix("s")
        if reason := self.unusable.get(f"{section}.{name}") or self.unusable.get(""):
            raise ConnectorUnusable(noun, name, reason)
        raise ConnectorUnknown(sought or noun, name, self.names(section) if known is None else known)

    def to_json(self) -> dict[str, Any]:
        """Return the fields that workers need, credentials included; they are JSON-able."""
        return {
            name: getattr(self, name)
            for name in ("root", "pools", "connectors", "unusable", "deferred", "told_secrets")
        }


def read_connectors(
    path: str | os.PathLike[str],
    values: Values,
    *,
    root: str | os.PathLike[str] | None = None,
    name: str = "",
    required: bool = False,
) -> ResolvedConnectors:
    """Return the pools and connectors of a file, with references resolved, and the reasons why others cannot be used.

    :param values: the variables, or all sources of values
    :param root: directory that SQLite paths are relative to; by default the file's directory
    :param name: the file's name in messages; its path if empty
    :param required: True if a missing file is an error rather than an empty one
    """
    file = Path(path)
    home = str(Path(root if root is not None else file.parent).absolute())
    if not required and not os.path.lexists(file):
        return ResolvedConnectors(root=home, file=str(file))
    # Imported here because it loads pydantic, which a project without connectors does not need.
    from nomaflow_project.connectors.reading import read_connectors as read

    found = read(file, values, name=name, required=required)
    return ResolvedConnectors(
        root=home,
        file=str(file),
        pools=found.pools,
        connectors=found.connectors,
        unusable=found.unusable,
        secret_env_names=tuple(sorted(found.variables)),
        deferred=[[placeholder, *reference] for placeholder, reference in found.deferred.items()],
        told_secrets=sorted(found.secrets),
        problems=found.problems,
    )


def _table_secrets(table: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for key, value in table.items():
        if isinstance(value, Mapping) and key == "headers":
            shown = [str(text) for name, text in value.items() if _SECRET_HEADER.search(name)]
            found.update(part for text in shown for part in (text, text.rpartition(" ")[2]))  # "Bearer …" and its token
        elif isinstance(value, Mapping):
            found |= _table_secrets(value)
        elif isinstance(value, str) and key in _SECRET_KEYS:
            found.add(value)
        elif isinstance(value, str) and "://" in value:
            found.update(form for written in url_passwords(value) for form in (written, unquote(written)))
    return found
