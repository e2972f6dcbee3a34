"""Rules for what is written by hand: modules under 400 lines, functions under 60, docstrings that begin plainly."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("sdk", "kernel", "plugin_host", "plugins", "protos", "tests", "bench")
SPECIMENS = ("hostile", "tests/e2e/authors/")
"""Files that must not parse, or must be odd, are the subject of tests."""
QUESTIONS = frozenset({"how", "what", "when", "where", "whether", "which", "who", "whose", "why"})


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A module, class or function. Its tree is not kept: a million nodes keep the garbage collector busy."""

    place: str
    lines: int
    first_word: str


@functools.cache
def definitions() -> Sequence[Definition]:
    """Return what is written by hand: every module, and the classes and functions of those that are no specimens."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *SOURCES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    found = []
    for name in listed:
        if name.endswith(".py") and "_pb2" not in name and (ROOT / name).is_file():
            text = (ROOT / name).read_text(encoding="utf-8")
            specimen = any(part in name for part in SPECIMENS)
            module = ast.Module(body=[]) if specimen else ast.parse(text)
            found.append(Definition(place=name, lines=text.count("\n"), first_word=first_word(module)))
            for node in statements(module):
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    lines = 0 if isinstance(node, ast.ClassDef) else (node.end_lineno or 0) - node.lineno + 1
                    place = f"{name}:{node.lineno} {node.name}"
                    found.append(Definition(place=place, lines=lines, first_word=first_word(node)))
    return found


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Return all statements of a module: a class or function is one, and no expression holds one."""
    for blocks in ("body", "handlers", "cases", "orelse", "finalbody"):
        for each in getattr(node, blocks, ()):
            yield each
            yield from statements(each)


def first_word(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return the first word of a docstring, in small letters; empty if there is none."""
    words = (ast.get_docstring(node) or "").split(maxsplit=1)
    return words[0].strip(".,:;'").lower() if words else ""


def test_modules_and_functions_stay_small() -> None:
    """Every module has at most 400 lines, and every function at most 60."""
    assert len(definitions()) > 1000
    most = {True: 400, False: 60}
    assert [each for each in definitions() if each.lines > most[each.place.endswith(".py")]] == []


def test_docstrings_begin_with_a_noun_or_a_verb() -> None:
    """No docstring begins with a question word: it names the thing, or says what it does."""
    assert [each for each in definitions() if each.first_word in QUESTIONS] == []
