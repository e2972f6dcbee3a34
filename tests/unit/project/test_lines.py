"""Lines of problems in TOML files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nomaflow_project.check.project import check_project
from nomaflow_project.reading.lines import lines_of_keys, with_lines
from nomaflow_project.reading.problems import Place

TEXT = """\
x.y = 1
[meta]
retention = { days = 3 }
[[jobs]]
id = "a"
steps = [
  { type = "python",
    callable = "a:b" },
  # between two
  { type = "python" },
]
[jobs.params]
"q.r" = 2
"a\\"\\u00e9" = 3
[[jobs]]
id = "b"
[[jobs.steps]]
callable = "a:b"
[[jobs.steps]]
callable = '''
long'''
[jobs.steps.op_kwargs]
z = 1
[implied.table]
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("x.y", 1),
        ("meta.retention.days", 3),
        ("implied", 24),
        ("jobs", 4),
        ("jobs[0]", 4),
        ("jobs[0].steps[0].callable", 8),
        ("jobs[0].steps[1]", 10),
        ('jobs[0].params."q.r"', 13),
        ('jobs[0].params."a\\"é"', 14),
        ("jobs[1].id", 16),
        ("jobs[1].steps[1].callable", 20),
        ("jobs[1].steps[1].op_kwargs.z", 23),
    ],
)
def test_a_key_has_its_line(path: str, line: int) -> None:
    """However it is written: dotted, in a header, in an inline table or in an array over several lines."""
    assert lines_of_keys(TEXT.encode())[path] == line


def test_a_problem_has_the_nearest_line(tmp_path: Path) -> None:
    """A missing key has the line of its table; a missing file, or a known line, changes nothing."""
    (tmp_path / "jobs.toml").write_text(TEXT)
    missing = Place("jobs.toml", "jobs[1].steps[0].op_kwargs.deep[3]").error("c", "m")
    gone = Place("gone.toml", "jobs[0]").error("c", "m")
    known = replace(missing, line=99)
    elsewhere = Place("jobs.toml", "nothing").error("c", "m")
    assert [each.line for each in with_lines([missing, gone, known, elsewhere], tmp_path)] == [17, 0, 99, 0]


@pytest.mark.parametrize("key", ["a b", "it's", "q.r"])
def test_a_value_that_cannot_be_encoded_has_a_line(tmp_path: Path, key: str) -> None:
    """Its path is the encoder's, which writes keys as Python does."""
    (tmp_path / "jobs.toml").write_text(f'[[jobs]]\nid = "a"\n[jobs.params]\n"{key}" = nan\n')
    (problem,) = check_project(tmp_path, environ={}).jobs[0].problems
    assert (problem.code, problem.line) == ("bad_value", 3)


def test_a_broken_text_has_the_lines_that_can_be_recognised() -> None:
    """A syntax error hides its own surroundings and no more."""
    assert lines_of_keys(b'[[jobs]]\nid = "a"\n[[jobs]]\nid = "b\n[kernel]\nlisten = 1\n')["jobs[0].id"] == 2
