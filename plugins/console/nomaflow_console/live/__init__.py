"""Parts of pages that change while they are looked at."""

from __future__ import annotations

from nomaflow_console.live.stream import Streams
from nomaflow_console.live.views import Cursor, LiveView, ServerEvent, of_kinds, rendered

__all__ = ["Cursor", "LiveView", "ServerEvent", "Streams", "of_kinds", "rendered"]
