"""The bounds of a TOML text, checked before it is parsed: the parser recurses, and takes time squared for long keys."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nomaflow_project.reading.problems import Place, Problem

_FILE_BRACKETS = 128
"""Open brackets and braces in a TOML file: its parser recurses. Deeper than 64 levels a job is refused by itself."""
_FILE_NESTING = 256
"""Levels of tables, lists and dotted keys in a TOML file, all together: whoever walks its tree recurses."""
_KEY_LENGTH = 1_024
"""Characters of a key in a TOML file, all its dotted parts together."""
_KEY_PARTS = 64
"""Parts of a dotted key: each is a level of nesting, and the parser's time grows with their square."""

# Every character is in one token, and no token is looked at twice: the quantifiers are possessive.
_TOKEN = re.compile(
    r'''"""(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5}|\Z)  |  \'\'\'(?:[^']|'(?!''))*+(?:'{3,5}|\Z)
      | "(?:[^"\\\n]|\\.)*+"?+  |  '[^'\n]*+'?+
      | \#[^\n]*+
      | (?P<mark>[\[\]{}=.,\n])
      | [^"'\#\[\]{}=.,\n]++''',
    re.VERBOSE | re.DOTALL,
)


def outside_bounds(text: str, place: Place) -> Problem | None:
    """Return the problem of a text that is nested too deeply, or has too long a key; None for any other text.

    A text within the bounds need not be TOML.
    """
    depth, parts, begin, line, in_header, before = 0, 0, 0, 1, False, "\n"
    for token in _TOKEN.finditer(text):
        mark, at = token["mark"], token.start()
        if mark is None:
            line += text.count("\n", at, token.end())
            continue
        if mark == ".":
            parts += 1
            if parts >= _KEY_PARTS:
                message = f"a key has more than {_KEY_PARTS} parts"
                return place.error("bad_toml", message, fix="shorten the key", line=line)
            continue
        if (mark == "=" or (mark == "]" and in_header)) and at - begin > _KEY_LENGTH:
            message = f"a key has {at - begin:,} characters, expected at most {_KEY_LENGTH:,}"
            return place.error("bad_toml", message, fix="shorten the key", line=line)
        if mark in "[{":
            in_header = mark == "[" and (in_header or (depth == 0 and before == "\n" and not text[begin:at].strip()))
            depth += 1
            if depth > _FILE_BRACKETS:
                return _too_deep(place, line)
        elif mark in "]}":
            depth = max(0, depth - 1)
        elif mark == "\n":
            line += 1
        in_header = in_header and depth > 0
        parts, begin, before = 0, token.end(), mark
    return None


def nested_too_deeply(tree: object, place: Place) -> Problem | None:
    """Return the problem of a parsed tree that is nested too deeply: dotted keys and headers are levels too."""
    level: Iterable[object] = [tree]
    for _ in range(_FILE_NESTING):
        level = [child for each in level for child in _children(each)]
        if not level:
            return None
    return _too_deep(place, 0)


def _children(each: object) -> Iterable[object]:
    if isinstance(each, dict):
        return [child for child in each.values() if isinstance(child, dict | list)]
    return [child for child in each if isinstance(child, dict | list)] if isinstance(each, list) else []


def _too_deep(place: Place, line: int) -> Problem:
    fix = "nest at most 64 levels"
    return place.error("bad_toml", "it is nested too deeply", fix=fix, line=line)
