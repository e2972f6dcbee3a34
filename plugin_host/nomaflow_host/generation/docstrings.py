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
    for names, text in (*_fields(lines), *_sections(lines)):
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


def _sections(lines: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the items of Google's sections, which are indented, and of NumPy's, which stand below a rule."""
    for number, line in enumerate(lines):
        below, title = lines[number + 1 :], line.strip()
        if _GOOGLE.fullmatch(title):
            yield from _items(below, _indent(line), _GOOGLE_ITEM)
        elif title in ("Parameters", "Other Parameters") and below and _NUMPY_RULE.fullmatch(below[0].strip()):
            yield from _items(below[1:], _indent(line), _NUMPY_ITEM)


def _items(lines: list[str], outer: int, form: re.Pattern[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the items of a section: a text continues until the next item at the depth of the first.

    :param outer: the depth of the section's title, at which only NumPy's items may be
    """
    item: tuple[list[str], list[str]] | None = None
    level = 0
    for line in lines:
        match = form.fullmatch(line.strip())
        if line.strip() and _indent(line) <= outer and (match is None or form is _GOOGLE_ITEM or level > outer):
            break
        if match is not None and (item is None or _indent(line) == level):
            if item is not None:
                yield item
            names, *text = match.groups()
            item, level = ([name.strip(" *") for name in names.split(",")], text), _indent(line)
        elif item is not None:
            item[1].append(line)
    if item is not None:
        yield item


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
