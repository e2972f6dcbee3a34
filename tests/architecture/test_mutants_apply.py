"""Every mutant still fits the code, and names tests that exist; ``make mutants`` runs them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "mutants"))

from mutants import Edit, Mutant, MutantError, load_mutants  # noqa: E402  # found by the line above


@pytest.fixture(scope="module")
def mutants() -> list[Mutant]:
    """Return all mutants."""
    return load_mutants(ROOT / "tests" / "mutants")


def misfits(mutant: Mutant) -> Iterator[str]:
    """Yield what keeps a mutant from being run, or from being killed by the tests that it names."""
    try:
        for path, module in mutant.trees(ROOT).items():
            compile(module, path, "exec")
    except (MutantError, SyntaxError) as error:
        yield f"{mutant.name}: {error}"
    if any(edit.code == edit.instead for edit in mutant.edits):
        yield f"{mutant.name} changes nothing"
    for test in mutant.tests:
        file, _, name = test.partition("::")
        if f"def {name.partition('[')[0]}(" not in (ROOT / file).read_text(encoding="utf-8"):
            yield f"{mutant.name}: {file} has no test {name}"


def test_mutants_fit_the_code(mutants: list[Mutant]) -> None:
    """A mutant's code occurs exactly once where it says, the result is valid Python, and each of its tests exists."""
    assert [told for mutant in mutants for told in misfits(mutant)] == []


def test_every_part_has_mutants(mutants: list[Mutant]) -> None:
    """Engine, gateway, store and host have some each, and each says what would go wrong."""
    places = [edit.at for mutant in mutants for edit in mutant.edits]
    for part in ("nomaflow_kernel.engine.", "nomaflow_kernel.hosts.", "nomaflow_kernel.store."):
        assert any(at.startswith(part) for at in places), part
    for part in ("nomaflow_host.outbox.", "nomaflow_host.session."):
        assert any(at.startswith(part) for at in places), part
    assert len(mutants) >= 15
    assert all(mutant.reason for mutant in mutants)


MODULE = '''
FLAGS = READ | WRITE

class Door:
    """A door."""

    def open(self, key):
        """Open it."""
        if key and self.fits(key, turned=True):
            self.opened += 1
            log("the door %s is open", self)
        return self.opened
'''


@pytest.mark.parametrize(
    ("at", "code", "instead", "before", "after"),
    [
        ("FLAGS", "WRITE", "0", "READ | WRITE", "READ | 0"),
        ("Door.open", "key and ...", "True", "if key and self.fits(key, turned=True):", "if True:"),
        ("Door.open", "self.fits(...)", "False", "self.fits(key, turned=True)", "False"),
        ("Door.open", "self.opened += 1", "", "            self.opened += 1\n", ""),
        ("Door", "log(...)", "log()\npass", 'log("the door %s is open", self)', "log()\n            pass"),
        ("Door.open", "'is open'", "'is shut'", "is open", "is shut"),
        ("Door.open", "", "return None", '"""Open it."""\n', '"""Open it."""\n        return None\n'),
    ],
)
def test_what_a_mutant_replaces(tmp_path: Path, at: str, code: str, instead: str, before: str, after: str) -> None:
    """An expression, a call with any arguments, a statement, a piece of a string, the beginning of a function."""
    tree = ast.parse(MODULE)
    Edit(at=f"some:{at}", code=code, instead=instead).apply(tree, tmp_path)
    assert before in MODULE
    expected = MODULE.replace(before, after)
    assert ast.unparse(ast.fix_missing_locations(tree)) == ast.unparse(ast.parse(expected))


@pytest.mark.parametrize(
    ("at", "code", "error"),
    [
        ("Door.open", "self.closed", "0 times"),
        ("Door.open", "self", "'self' 4 times"),
        ("Door.shut", "self.opened", r"no some:Door\.shut; adapt the mutant \(shut is in kernel/house/gate\.py\)"),
    ],
)
def test_a_mutant_that_no_longer_fits_is_an_error(tmp_path: Path, at: str, code: str, error: str) -> None:
    """The code is gone, or is there twice, or the function has moved."""
    (tmp_path / "kernel" / "house").mkdir(parents=True)
    (tmp_path / "kernel" / "house" / "gate.py").write_text("def shut():\n    pass\n", encoding="utf-8")
    with pytest.raises(MutantError, match=error):
        Edit(at=f"some:{at}", code=code, instead="False").apply(ast.parse(MODULE), tmp_path)


def test_a_mutant_of_a_module_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(MutantError, match=r"no module house\.gate"):
        Edit(at="house.gate:shut", code="", instead="return").file(tmp_path)
