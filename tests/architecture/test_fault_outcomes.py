"""docs/fault_outcomes.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "fault_outcomes.md"


def rows() -> dict[str, list[str]]:
    """Return the cells of each row, by its number."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| F")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_every_fault_has_a_row() -> None:
    """F1 to F37, in order, each with the fault, its outcome and its proof."""
    found = rows()
    assert list(found) == [f"F{number}" for number in range(1, 38)]
    assert {len(row) for row in found.values()} == {3}


def test_every_proof_is_there() -> None:
    """A proof names a file below tests/ and a test function in it."""
    for number, (_, _, proofs) in rows().items():
        for proof in proofs.split(" "):
            named = re.fullmatch(r"`([\w/]+\.py)::(\w+)`", proof)
            assert named, f"{PAGE.name} has {proof} among the proofs of {number}"
            file, name = named.groups()
            path = ROOT / "tests" / file
            assert path.is_file(), f"{PAGE.name} names {file}, which does not exist"
            found = re.search(rf"^(async )?def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert found, f"{PAGE.name} names {name}, which {file} has not"
