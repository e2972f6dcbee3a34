"""Messages of a stream as server-sent events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

_LINES = re.compile(r"\r\n|\r|\n")
_OWN_ELEMENT = re.compile(r"\s*<[a-z][^>]*\sid=[\"']?([^\"'\s>]+)")


def encode(data: str, *, id: str = "", event: str = "") -> bytes:
    """Return one message.

    :param id: what the browser sends back after a break
    :param event: its name; empty for HTML that is swapped in
    """
    lines = [f"id: {id}"] if id else []
    if event:
        lines.append(f"event: {event}")
    lines += [f"data: {line}" for line in _LINES.split(data)]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


def parts_html(parts: Mapping[str, str]) -> str:
    """Return HTML that morphs each part into the element of its id.

    A part may be the element itself, with that id, or what is inside it.
    """
    whole = []
    for id, html in parts.items():
        found = _OWN_ELEMENT.match(html)
        style = "outerMorph" if found is not None and found[1] == id else "innerMorph"
        whole.append(f'<hx-partial hx-target="#{id}" hx-swap="{style}">{html}</hx-partial>')
    return "".join(whole)


def read_cursor(text: str) -> tuple[int, int]:
    """Return the event and the log line of ``EVENTSEQ.LOGSEQ``; 0 for what is missing or malformed."""
    event, _, line = text.partition(".")
    return _number(event), _number(line)


def read_moment(text: str) -> datetime | None:
    """Return the instant of seconds since the epoch; None if it is missing or malformed."""
    return datetime.fromtimestamp(int(text), UTC) if text.isdecimal() and len(text) < 12 else None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 20 else 0
