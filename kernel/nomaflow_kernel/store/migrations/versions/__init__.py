"""One module per revision; each only adds, within a major version."""

from __future__ import annotations
