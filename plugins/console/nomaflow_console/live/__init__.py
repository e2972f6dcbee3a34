"""Parts of pages that change while they are looked at."""

from __future__ import annotations

from nomaflow_console.live.stream import Streams
from nomaflow_console.live.views import Cursor, HasExtra, LiveView, ServerEvent

__all__ = ["Cursor", "HasExtra", "LiveView", "ServerEvent", "Streams"]
