"""JSON values as trees that open. A page shows the first values only, however many its results have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from markupsafe import Markup, escape

from nomaflow_telemetry.visible_text import printable

_MOST_OF_PAGE, _MOST_OF_TREE, _MOST_OF_LEVEL, _MOST_DEPTH = 20_000, 2_000, 200, 12
_FEW = 12
"""The entries of a value that is open from the start."""
_LONGEST, _SHORT = 4_000, 300
"""The characters that are shown of one text, and of a value in one line."""
_encoder = json.JSONEncoder(ensure_ascii=False, default=str)


class JsonTrees:
    """The trees of one page, which share the number of values that it shows."""

    def __init__(self) -> None:
        self._left = _MOST_OF_PAGE

    def tree(self, value: Any) -> Markup:
        """Return a value as HTML."""
        others = max(self._left - _MOST_OF_TREE, 0)
        self._left -= others
        html = self._entries(value, 0) if _opens(value) else f"<span>{_leaf(value)}</span>"
        self._left += others
        return Markup(html)  # noqa: S704  # escaped below

    def _entries(self, value: Any, depth: int) -> str:
        entries: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, Mapping) else enumerate(value)
        shown = list(islice(entries, min(_MOST_OF_LEVEL, self._left)))
        self._left -= len(shown)  # before what is inside of them, so that the first one does not take all
        told = [f"<li>{self._entry(key, inner, depth)}</li>" for key, inner in shown]
        if len(value) > len(shown):
            told.append(f'<li class="quiet">{len(value) - len(shown):,} more</li>')
        return f'<ul class="tree">{"".join(told)}</ul>'

    def _entry(self, key: Any, inner: Any, depth: int) -> str:
        name = f'<span class="quiet">{_leaf(str(key))}:</span>'
        if not (_opens(inner) and inner):
            return f"{name} {_leaf(inner)}"
        size = f"{{{len(inner)}}}" if isinstance(inner, Mapping) else f"[{len(inner)}]"
        if depth == _MOST_DEPTH:
            return f"{name} {size}"
        is_open = " open" if depth < 1 and len(inner) <= _FEW else ""
        return f"<details{is_open}><summary>{name} {size}</summary>{self._entries(inner, depth + 1)}</details>"


def in_one_line(value: Any) -> str:
    """Return the beginning of a value as JSON."""
    told = ""
    for part in _encoder.iterencode(value):
        told += part
        if len(told) > _SHORT:
            return f"{printable(told[:_SHORT])}…"
    return printable(told)


def _opens(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _leaf(value: Any) -> Markup:
    told = value if isinstance(value, str) else _encoder.encode(value)
    more = f" … {len(told) - _LONGEST:,} more characters" if len(told) > _LONGEST else ""
    return escape(printable(told[:_LONGEST]) + more)
