"""Names of hosts in the tables of nomaflow.toml."""

from __future__ import annotations

from typing import Annotated

from nomaflow_project.reading.keys import formed
from nomaflow_project.reading.names import HOST_NAME

_FORM = "a host name; expected at most 64 lower-case letters, digits, '-' or '_'"
_FIX = "give a name such as 'billing'"

HostName = Annotated[str, formed("bad_host_name", lambda name: not name or HOST_NAME.fullmatch(name), _FORM, _FIX)]
"""A name; empty for the default."""
HostNames = Annotated[tuple[str, ...], formed("bad_host_name", HOST_NAME.fullmatch, _FORM, _FIX)]
