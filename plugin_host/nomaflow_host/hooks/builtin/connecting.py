"""The connector types ``sql`` and ``api``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow import hookimpl
from nomaflow_host.connectors.types import BUILTIN_TYPES

if TYPE_CHECKING:
    from nomaflow.calls import ConnectorFactory

__all__ = ["nomaflow_contribute_connectors"]


@hookimpl(trylast=True)
def nomaflow_contribute_connectors() -> dict[str, ConnectorFactory]:
    """Return the built-in types."""
    return dict(BUILTIN_TYPES)
