"""The resolved contents of connectors.toml. They hold credentials, which the repr never shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from nomaflow_api.credential_signs import names_credential, url_passwords
from nomaflow_project.reading.problems import Problem
from nomaflow_project.reading.sources import Reference

_SECRET_KEYS = frozenset({"password", "token", "value", "client_secret"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectorSet:
    """All pools and connectors of a project, with credentials.

    The host's main process reads it and hands it to workers over their socket; it is never logged or stored.

    :param root: the folder that SQLite paths are relative to
    :param pools: the values of each usable pool
    :param connectors: the values of each usable connector; for a type that plugins contribute, its table
    :param unusable: why a pool (``pools.NAME``), a connector (``connectors.NAME``) or all of the file (empty) cannot be
        used, in a sentence with file, place and way out
    :param told_secrets: the secrets that references resolved to, wherever they are used
    :param deferred: placeholders in the values, each with the reference for a plugin that it stands for: these are
        resolved for each attempt
    :param variables: variables that the file refers to, and variables that may name their files; workers inherit none
    :param problems: errors and warnings
    """

    root: str = ""
    file: str = ""
    pools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    connectors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    unusable: Mapping[str, str] = field(default_factory=dict)
    told_secrets: Sequence[str] = field(default_factory=list, repr=False)
    deferred: Mapping[str, Reference] = field(default_factory=dict)
    variables: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """All credentials, sorted, for masking."""
        found: set[str] = set(self.told_secrets)
        for table in (*self.pools.values(), *self.connectors.values()):
            found |= _table_secrets(table)
        return tuple(sorted(found - {""}))

    def names(self, section: str) -> tuple[str, ...]:
        """Return the names of all ``pools`` or ``connectors``, sorted, including those that cannot be used."""
        unusable = (path.partition(".")[2] for path in self.unusable if path.startswith(f"{section}."))
        return tuple(sorted({*getattr(self, section), *unusable}))

    def to_json(self) -> dict[str, Any]:
        """Return the fields that workers need, credentials included; they are JSON-able."""
        needed = ("root", "pools", "connectors", "unusable", "told_secrets", "deferred")
        return {name: getattr(self, name) for name in needed}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> ConnectorSet:
        """Return what `to_json` made *tree* from."""
        deferred = {placeholder: Reference(*parts) for placeholder, parts in tree["deferred"].items()}
        return cls(**{**tree, "deferred": deferred})


def _table_secrets(table: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for key, value in table.items():
        if isinstance(value, Mapping) and key == "headers":
            shown = [str(text) for name, text in value.items() if names_credential(name)]
            found.update(part for text in shown for part in (text, text.rpartition(" ")[2]))  # "Bearer …" and its token
        elif isinstance(value, Mapping):
            found |= _table_secrets(value)
        elif isinstance(value, str) and key in _SECRET_KEYS:
            found.add(value)
        elif isinstance(value, str) and "://" in value:
            found.update(form for written in url_passwords(value) for form in (written, unquote(written)))
    return found
