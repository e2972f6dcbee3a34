"""Line numbers of problems: tomllib gives values without their places, so the file's text is parsed once more.

The parser is loaded, and a file read, only if a problem needs a line.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nomaflow_project.reading.problems import Place, Problem
from nomaflow_project.reading.regular_files import read_regular
from nomaflow_project.reading.toml_bounds import outside_bounds

if TYPE_CHECKING:
    from tree_sitter import Node

_LAST_PART = re.compile(r'(?:\[\d+\]|\[(?P<quote>["\x27]).*(?P=quote)\]|\.?"(?:[^"\\]|\\.)*"|\.?[^."\[\]]+)$')


def with_lines(problems: Iterable[Problem], root: Path) -> tuple[Problem, ...]:
    """Return the problems, each with the line of its key or of the nearest table around it, if one can be found.

    :param root: the folder that the problems' files are relative to
    """
    known: dict[str, dict[str, int]] = {}
    found = []
    for problem in problems:
        if problem.line == 0 and problem.file.endswith(".toml"):
            if problem.file not in known:
                known[problem.file] = _lines_of(root / problem.file)
            problem = replace(problem, line=_nearest(known[problem.file], problem.path))
        found.append(problem)
    return tuple(found)


def _lines_of(path: Path) -> dict[str, int]:
    """Return the lines of a file's keys."""
    try:
        body = read_regular(path)
    except OSError:
        return {}
    return lines_of_keys(body) if outside_bounds(body.decode("utf-8", "replace"), Place("")) is None else {}


def lines_of_keys(body: bytes) -> dict[str, int]:
    """Return the line of each key and table of a TOML text, by its path, such as ``jobs[2].steps[0].callable``.

    The text may be broken: the result has the keys that can be recognised.
    """
    import tree_sitter
    import tree_sitter_toml

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language()))
    lines = _Lines()
    lines.document(parser.parse(body).root_node)
    return lines.found


def _nearest(known: dict[str, int], path: str) -> int:
    while path not in known:
        shorter = _LAST_PART.sub("", path)
        if shorter in ("", path):
            return 0
        path = shorter
    return known[path]


class _Lines:
    """Walks a document and records the line of each key."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}
        self._counts: dict[str, int] = {}

    def document(self, root: Node) -> None:
        """Take in all tables and keys."""
        for node in root.named_children:
            if node.type == "pair":
                self._pair(node, "")
            elif node.type in ("table", "table_array_element") and node.named_children:
                at = self._header(node.named_children[0], array=node.type == "table_array_element")
                self.found.setdefault(at, _line(node))
                for child in node.named_children[1:]:
                    if child.type == "pair":
                        self._pair(child, at)

    def _header(self, key: Node, *, array: bool) -> str:
        """Return the path of a table; for an array of tables, that of its newest element."""
        at, parts = "", _parts(key)
        for index, part in enumerate(parts):
            at = _below(at, part)
            self.found.setdefault(at, _line(key))  # also for a table that only a longer header implies
            if array and index == len(parts) - 1:
                self._counts[at] = self._counts.get(at, -1) + 1
            if at in self._counts:
                at = f"{at}[{self._counts[at]}]"
        return at

    def _pair(self, node: Node, at: str) -> None:
        key, *values = node.named_children
        for part in _parts(key):
            at = _below(at, part)
            self.found.setdefault(at, _line(key))
        for value in values:
            self._value(value, at)

    def _value(self, node: Node, at: str) -> None:
        if node.type == "inline_table":
            for child in node.named_children:
                if child.type == "pair":
                    self._pair(child, at)
        elif node.type == "array":
            for index, child in enumerate(each for each in node.named_children if each.type not in _NO_VALUES):
                self.found.setdefault(f"{at}[{index}]", _line(child))
                self._value(child, f"{at}[{index}]")


_NO_VALUES = ("comment", "ERROR")


def _line(node: Node) -> int:
    return node.start_point.row + 1


def _below(at: str, part: str) -> str:
    return (Place("", at) / part).path


def _parts(key: Node) -> list[str]:
    if key.type == "dotted_key":
        return [part for child in key.named_children for part in _parts(child)]
    text = (key.text or b"").decode("utf-8", "replace")
    if key.type == "quoted_key":
        with contextlib.suppress(tomllib.TOMLDecodeError):
            return list(tomllib.loads(f"{text} = 0"))
    return [text]
