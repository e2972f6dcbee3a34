"""The bounds that the documentation names are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from nomaflow_api import bounds
from nomaflow_project.jobs import definitions

DOCS = Path(__file__).parents[2] / "docs" / "grpc_api.md"


def test_the_table_of_bounds_has_their_numbers() -> None:
    """Each row names a constant and its value."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([0-9,]+) \| ", DOCS.read_text(), re.MULTILINE)
    assert len(rows) == 16
    assert [(name, f"{getattr(bounds, name):,}") for name, _ in rows] == rows


def test_every_bound_is_exported_and_told_with_its_reason() -> None:
    """A constant without a sentence below it is a number that nobody dares to change."""
    text = Path(bounds.__file__).read_text()
    names = re.findall(r"^([A-Z_]+) = .*\n\"\"\"[A-Z`]", text, re.MULTILINE)
    assert sorted(names) == sorted(name for name in bounds.__all__ if name.isupper())


def test_the_steps_of_a_job_have_one_bound() -> None:
    """The reader of jobs.toml has the same."""
    assert definitions.STEPS_OF_JOB == bounds.STEPS_OF_JOB
