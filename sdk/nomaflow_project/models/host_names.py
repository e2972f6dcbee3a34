"""Names of hosts in the tables of nomaflow.toml."""

from __future__ import annotations

from typing import Annotated

from nomaflow_project.reading.keys import Checked, refusal
from nomaflow_project.reading.names import HOST_NAME

__all__ = ["HostName", "HostNames"]


def _host_name(value: str) -> str:
    if value and not HOST_NAME.fullmatch(value):
        raise refusal(
            "bad_host_name",
            "{got} is not a host name; expected at most 64 lower-case letters, digits, '-' or '_'",
            got=repr(value[:80]),
            fix="give a name such as 'billing'",
        )
    return value


def _host_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        _host_name(name or " ")  # no name may be empty here
    return names


HostName = Annotated[str, Checked(_host_name)]
"""A name; empty for the default."""
HostNames = Annotated[tuple[str, ...], Checked(_host_names)]
