"""The forms of the names that files, commands and peers share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

HOST_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""A host's name."""

JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""A job's id."""

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
"""A level of a log."""


def runs_on(job: Mapping[str, Any], host: str) -> bool:
    """Return True if a table of ``[[jobs]]`` that a host reads names no other host to run it."""
    target = job.get("host")
    return not isinstance(target, str) or target in ("", host)
