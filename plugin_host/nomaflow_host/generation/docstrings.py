"""Reads the descriptions of parameters from a docstring, in the styles of Sphinx, Google and NumPy."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_TEXT = 500
_FIELD = re.compile(r":(?:param|parameter|arg|argument|key|keyword)\s+(?:[^:\n]*\s)?\*{0,2}(\w+)\s*:(.*)")
_OTHER_FIELD = re.compile(r":\w+[^:\n]*:")
_GOOGLE = re.compile(r"(?:Args|Arguments|Parameters|Keyword Args|Keyword Arguments):")
_GOOGLE_ITEM = re.compile(r"\*{0,2}(\w+)(?:\s*\([^)]*\))?\s*:(.*)")
_NUMPY_RULE = re.compile(r"-{3,}")
_NUMPY_ITEM = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)(?:\s*:.*)?")


def parameter_docs(doc: str) -> Mapping[str, str]:
    """Return the text for each parameter that a docstring describes, on one line, at most 500 characters."""
    lines = inspect.cleandoc(doc).splitlines()
    found: dict[str, list[str]] = {}
    for names, text in (*_fields(lines), *_google(lines), *_numpy(lines)):
        for name in names:
            found.setdefault(name, text)
    told = {name: " ".join(" ".join(parts).split())[:_MAX_TEXT] for name, parts in found.items()}
    return {name: text for name, text in told.items() if text}


def _fields(lines: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the fields of Sphinx's style: a text continues until the next field or an empty line."""
    for number, line in enumerate(lines):
        field = _FIELD.match(line.strip())
        if field is not None:
            text = [field[2]]
            for more in lines[number + 1 :]:
                if not more.strip() or _OTHER_FIELD.match(more.strip()):
                    break
                text.append(more)
            yield [field[1]], text


def _google(lines: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the items of Google's sections: a text continues while it is indented deeper than its item."""
    for number, line in enumerate(lines):
        if _GOOGLE.fullmatch(line.strip()):
            yield from _indented(lines[number + 1 :], _indent(line))


def _indented(lines: list[str], outer: int) -> Iterator[tuple[list[str], list[str]]]:
    item: tuple[list[str], list[str]] | None = None
    level = 0
    for line in lines:
        if line.strip() and _indent(line) <= outer:
            break
        match = _GOOGLE_ITEM.match(line.strip())
        if match is not None and (item is None or _indent(line) == level):
            if item is not None:
                yield item
            item, level = ([match[1]], [match[2]]), _indent(line)
        elif item is not None:
            item[1].append(line)
    if item is not None:
        yield item


def _numpy(lines: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the items of NumPy's section: names on a line of their own, and an indented text below."""
    for number, line in enumerate(lines[:-1]):
        if line.strip() in ("Parameters", "Other Parameters") and _NUMPY_RULE.fullmatch(lines[number + 1].strip()):
            outer = _indent(line)
            item: tuple[list[str], list[str]] | None = None
            for more in lines[number + 2 :]:
                if more.strip() and _indent(more) > outer:
                    if item is not None:
                        item[1].append(more)
                    continue
                match = _NUMPY_ITEM.fullmatch(more.strip())
                if more.strip() and match is None:
                    break
                if match is not None:
                    if item is not None and not item[1]:
                        break  # the title of the next section
                    if item is not None:
                        yield item
                    item = ([name.strip(" *") for name in match[1].split(",")], [])
            if item is not None and item[1]:
                yield item


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
