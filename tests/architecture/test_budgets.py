"""Rules for what is written by hand: modules under 400 lines, functions under 60, docstrings that begin plainly."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("sdk", "kernel", "plugin_host", "plugins", "protos", "tests", "bench")
SPECIMENS = ("hostile", "tests/e2e/authors/")
"""Files that must not parse, or must be odd, are the subject of tests."""
QUESTIONS = frozenset({"how", "what", "when", "where", "whether", "which", "who", "whose", "why"})


@functools.cache
def modules() -> Sequence[tuple[str, int, Sequence[ast.AST]]]:
    """Return path, lines and nodes of every module written by hand; specimens have no nodes."""
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
            found.append((name, text.count("\n"), () if specimen else tuple(ast.walk(ast.parse(text)))))
    return found


def test_modules_and_functions_stay_small() -> None:
    """Every module has at most 400 lines, and every function at most 60."""
    too_large = []
    for name, lines, nodes in modules():
        if lines > 400:
            too_large.append(f"{name}: {lines} lines")
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 60:
                    too_large.append(f"{name}:{node.lineno} {node.name}: {length} lines")
    assert len(modules()) > 100
    assert too_large == []


def test_docstrings_begin_with_a_noun_or_a_verb() -> None:
    """No docstring begins with a question word: it names the thing, or says what it does."""
    wrong = []
    for name, _, nodes in modules():
        for node in nodes:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = (ast.get_docstring(node) or "-").split(maxsplit=1)[0]
                if first.strip(".,:;'").lower() in QUESTIONS:
                    wrong.append(f"{name}:{getattr(node, 'lineno', 1)} {first}")
    assert wrong == []
