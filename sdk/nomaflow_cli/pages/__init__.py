"""Tables and pages for people, made from the client's values. A module, and with it rich, loads once it is named."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nomaflow_cli.pages import (
        access,
        alerts,
        attempts,
        audit,
        callables,
        events,
        findings,
        hosts,
        jobs,
        log_lines,
        runs,
    )  # fmt: skip

__all__ = [
    "access", "alerts", "attempts", "audit", "callables", "events", "findings", "hosts", "jobs", "log_lines", "runs",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
