"""The sections of ``settings`` that always exist."""

from __future__ import annotations

from typing import Any

from nomaflow import hookimpl

__all__ = ["nomaflow_contribute_settings"]


@hookimpl(trylast=True)
def nomaflow_contribute_settings() -> dict[str, Any]:
    """Return the sections without values; nomaflow.toml and the project's layout fill them."""
    return {"app": {}, "connectors": {"config_path": None}, "jobs": {"config_path": None}}
