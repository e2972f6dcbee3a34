"""Injects ``connectors``, ``ctx`` and ``settings``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomaflow import hookimpl

if TYPE_CHECKING:
    from nomaflow.calls import StepCall

__all__ = ["nomaflow_contribute_injections"]


@hookimpl(trylast=True)
def nomaflow_contribute_injections(call: StepCall) -> dict[str, Any]:
    """Return the objects that the call itself carries."""
    return {"connectors": call.connectors, "ctx": call.ctx, "settings": call.settings}
