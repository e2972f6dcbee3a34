"""Every mutant still fits the code, and names tests that exist; ``make mutants`` runs them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "mutants"))

from mutants import Edit, Mutant, MutantError, load_mutants  # noqa: E402  # found by the line above

MUTANTS = load_mutants(ROOT / "tests" / "mutants")


def _functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    """A mutant's old text occurs exactly once, its new text is valid Python, and each of its tests exists."""
    for path, text in mutant.texts(ROOT).items():
        assert text != path.read_text(encoding="utf-8")
        ast.parse(text)
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert name.partition("[")[0] in _functions(file), f"{file} has no test {name}"


def test_there_are_mutants_of_every_part() -> None:
    """Engine, gateway, store and host have some each, and each says what would go wrong."""
    files = {edit.file for mutant in MUTANTS for edit in mutant.edits}
    for part in ("kernel/nomaflow_kernel/engine", "kernel/nomaflow_kernel/hosts", "kernel/nomaflow_kernel/store"):
        assert any(file.startswith(part) for file in files), part
    for part in ("plugin_host/nomaflow_host/outbox", "plugin_host/nomaflow_host/session"):
        assert any(file.startswith(part) for file in files), part
    assert len(MUTANTS) >= 15
    assert all(mutant.reason for mutant in MUTANTS)


def test_a_mutant_that_no_longer_fits_is_an_error() -> None:
    """The text it would replace is gone, or is there twice."""
    edit = Edit(file="some.py", old="if a:", new="if False:")
    with pytest.raises(MutantError, match="0 times"):
        edit.applied("if b:\n")
    with pytest.raises(MutantError, match="2 times"):
        edit.applied("if a:\nif a:\n")
