"""Placeholders ``{{name}}`` in the endpoints of connectors written in the original's form."""

from __future__ import annotations

import json
import re
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|\{\{\s*\w+\s*\}\}')


def filled(text: str, values: Mapping[str, Any], quote: Callable[[str], str] = str) -> str:
    """Return a text with each ``{{name}}`` replaced by its value; None becomes an empty text.

    :param quote: applied to each value
    :raises KeyError: the name of a value that is missing
    """
    return _PLACEHOLDER.sub(lambda match: quote(_plain(values[match[1]])), text)


def filled_body(text: str, values: Mapping[str, Any], content_type: str) -> str:
    """Return a body. In JSON a value within quotes is escaped; elsewhere it becomes JSON, and a text stays as it is.

    :raises KeyError: the name of a value that is missing
    """
    kind = content_type.lower()
    if "x-www-form-urlencoded" in kind:
        return filled(text, values, urllib.parse.quote_plus)
    if "json" not in kind:
        return filled(text, values)
    return _JSON_TEXT.sub(lambda match: _in_json(match[0], values), text)


def _in_json(part: str, values: Mapping[str, Any]) -> str:
    if part.startswith('"'):
        return filled(part, values, lambda value: json.dumps(value)[1:-1])
    value = values[part.strip("{} \t\r\n")]
    return value if isinstance(value, str) else json.dumps(value)


def _plain(value: Any) -> str:
    return "" if value is None else str(value)
