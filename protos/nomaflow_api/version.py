"""The version of this code, which the distribution takes from here: its metadata takes a process 25 ms to read."""

from __future__ import annotations

VERSION = "0.1.0"
