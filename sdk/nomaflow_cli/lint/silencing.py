"""Comments that silence findings on their line: ``# noqa: NF101`` and ``# noqa``."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nomaflow_cli.lint.findings import Sighting

__all__ = ["is_silenced", "silenced_codes"]

_COMMENT = re.compile(r"#\s*noqa(?:\s*:\s*(?P<codes>[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*))?", re.IGNORECASE)


def silenced_codes(source: str) -> Mapping[int, frozenset[str] | None]:
    """Return a map from line to the codes that its comment silences; None means all codes."""
    found: dict[int, frozenset[str] | None] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            match = _COMMENT.search(token.string) if token.type == tokenize.COMMENT else None
            if match:
                codes = match["codes"]
                found[token.start[0]] = frozenset(re.split(r"[,\s]+", codes.upper())) if codes else None
    except (tokenize.TokenError, SyntaxError):
        return found  # the lines read so far count; the parser has accepted the file
    return found


def is_silenced(seen: Sighting, silenced: Mapping[int, frozenset[str] | None]) -> bool:
    """Return True if a comment on one of the sighting's lines names its code, or no code at all."""
    for line in range(seen.first_line, seen.last_line + 1):
        if line in silenced:
            codes = silenced[line]
            if codes is None or seen.code in codes:
                return True
    return False
