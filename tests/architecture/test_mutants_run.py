"""The runner of mutants, on a small product with tests of its own."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "mutants"))

from mutants import Edit, Mutant, MutantError  # noqa: E402  # found by the line above

_SPEC = importlib.util.spec_from_file_location("mutants_run", ROOT / "tests" / "mutants" / "run.py")
assert _SPEC is not None
assert _SPEC.loader is not None
run = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(run)

PRODUCT = """
NAME = ""
WIDTH = 3
"""
TESTS = '''
import time
from pathlib import Path
from house.door import NAME, WIDTH

MEETING = Path({meeting!r})

def test_two_meet():
    """Fails only if two mutants are tried at the same time."""
    if not NAME:
        return
    (MEETING / NAME).touch()
    end = time.monotonic() + 60
    while len(list(MEETING.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert len(list(MEETING.iterdir())) < 2

def test_the_door_is_a_door():
    assert WIDTH
'''


def mutant(name: str, at: str, code: str, instead: str, test: str) -> Mutant:
    """Return a mutant of the small product."""
    edit = Edit(at=f"house.door:{at}", code=code, instead=instead)
    return Mutant(
        file="house", name=name, reason=f"{name} is wrong", edits=(edit,), tests=(f"tests/test_door.py::{test}",)
    )


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for what is compiled, pytest itself above all: that of the suite, if it has one."""
    return Path(sys.pycache_prefix or tmp_path_factory.mktemp("bytecode"))


@pytest.fixture
def trees(tmp_path: Path, bytecode: Path) -> list[Path]:
    """Return two copies of a product with a module and its tests."""
    (tmp_path / "meeting").mkdir()
    first, second = tmp_path / "0" / "tree", tmp_path / "1" / "tree"
    for path, text in (
        ("kernel/house/door.py", PRODUCT),
        ("tests/test_door.py", TESTS.format(meeting=str(tmp_path / "meeting"))),
    ):
        (first / path).parent.mkdir(parents=True, exist_ok=True)
        (first / path).write_text(text, encoding="utf-8")
    shutil.copytree(first, second)
    for tree in (first, second):
        tree.with_name("bytecode").symlink_to(bytecode)
    return [first, second]


MEETS = [mutant(name, "NAME", "''", f"{name!r}", "test_two_meet") for name in ("ann", "bob")]
WIDE = mutant("wide", "WIDTH", "3", "4", "test_the_door_is_a_door")
GONE = mutant("gone", "WIDTH", "3", "0", "test_the_door_is_a_door")


def test_as_many_mutants_run_at_once_as_there_are_trees(trees: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Two mutants whose tests wait for each other meet, and both are killed; the trees are as before."""
    assert run._run_all(trees, MEETS) == 0
    assert "2 of 2 killed" in capsys.readouterr().out
    for tree in trees:
        assert (tree / "kernel/house/door.py").read_text(encoding="utf-8") == PRODUCT


def test_each_mutant_has_a_line_when_its_verdict_is_reached(
    trees: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A survivor is named at the end too; in one tree, the lines are in the order of the mutants."""
    assert run._run_all(trees[:1], [GONE, WIDE]) == 1
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in out[1:3]] == [["killed", "gone"], ["SURVIVES", "wide"]]
    assert out[3:] == ["1 of 2 killed", "not killed: wide"]


def test_nothing_is_shown_by_tests_that_fail_anyway(trees: list[Path]) -> None:
    """The tests have to pass on the code as it is, before any mutant is tried."""
    (trees[0] / "kernel/house/door.py").write_text(PRODUCT.replace("3", "0"), encoding="utf-8")
    with pytest.raises(MutantError, match="fail on the code as it is"):
        run._run_all(trees, [WIDE])


def test_mutants_are_chosen_by_their_name_or_their_file() -> None:
    """A file stands for all of its mutants; a name that is neither is an error."""
    assert {each.file for each in run._chosen(["store"])} == {"store"}
    both = run._chosen(["client", "epoch-not-checked"])
    assert "epoch-not-checked" in {each.name for each in both}
    assert {each.file for each in both} > {"client"}
    assert len(run._chosen([])) > len(both)
    with pytest.raises(MutantError, match="no mutant 'stoer'"):
        run._chosen(["client", "stoer"])
