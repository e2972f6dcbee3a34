"""The answer to a program that asks for JSON."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse


class JsonAnswer(JSONResponse):
    """JSON in ASCII: a text of a run may hold half of a pair of surrogates, which UTF-8 has no bytes for."""

    def render(self, content: Any) -> bytes:
        """Return the bytes of a value."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
