"""The answer to a program that asks for JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from starlette.responses import JSONResponse

_PART_BYTES = 256 * 1024
_encoded = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class JsonAnswer(JSONResponse):
    """JSON in ASCII: a text of a run may hold half of a pair of surrogates, which UTF-8 has no bytes for."""

    def render(self, content: Any) -> bytes:
        """Return the bytes of a value."""
        return json_bytes(content)


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON."""
    return _encoded(value).encode("ascii")


def joined(elements: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the elements of an array with their commas, many small ones as one part."""
    part = bytearray()
    for number, each in enumerate(elements):
        part += b"," + each if number else each
        if len(part) >= _PART_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part)
