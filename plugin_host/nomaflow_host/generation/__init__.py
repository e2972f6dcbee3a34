"""One load of a host's plugin code: its modules, the manifest, and calls."""

from __future__ import annotations
