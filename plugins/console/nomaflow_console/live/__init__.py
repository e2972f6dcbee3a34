"""Parts of pages that change while they are looked at."""

from __future__ import annotations

from nomaflow_console.live.views import LiveView, ServerEvent

__all__ = ["LiveView", "ServerEvent"]
