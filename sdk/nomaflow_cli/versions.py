"""The installed version of nomaflow."""

from __future__ import annotations

from importlib import metadata

__all__ = ["installed_version"]


def installed_version() -> str:
    """Return the version of the installed distribution; ``unknown`` if it is not installed."""
    try:
        return metadata.version("nomaflow")
    except metadata.PackageNotFoundError:
        return "unknown"
