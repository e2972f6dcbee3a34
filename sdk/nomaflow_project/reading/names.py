"""The forms of the names that files, commands and peers share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from nomaflow_project.reading.keys import formed

HOST_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""A host's name."""

_FORM = "a host name; expected at most 64 lower-case letters, digits, '-' or '_'"
_FIX = "give a name such as 'billing'"

HostName = Annotated[str, formed("bad_host_name", lambda name: not name or HOST_NAME.fullmatch(name), _FORM, _FIX)]
"""A name; empty for the default."""
HostNames = Annotated[tuple[str, ...], formed("bad_host_name", HOST_NAME.fullmatch, _FORM, _FIX)]

JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""A job's id."""

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
"""A level of a log."""


def host_name_of(folder: str) -> str:
    """Return the name of a host that no file names: a valid form of its folder's."""
    return re.sub(r"[^a-z0-9_-]+", "-", folder.lower()).strip("-_")[:64] or "host"


def runs_on(job: Mapping[str, Any], host: str) -> bool:
    """Return True if a table of ``[[jobs]]`` that a host reads names no other host to run it."""
    target = job.get("host")
    return not isinstance(target, str) or target in ("", host)
