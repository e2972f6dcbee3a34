"""The forms of the names that files, commands and peers share."""

from __future__ import annotations

import re

__all__ = ["HOST_NAME", "JOB_ID"]

HOST_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""A host's name."""

JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""A job's id."""
