"""Files that would cost minutes or the process itself are refused before they are parsed, by line and by name."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nomaflow_project.reading.files import parse_toml_file
from nomaflow_project.reading.lines import lines_of_keys, with_lines
from nomaflow_project.reading.problems import Problem
from nomaflow_project.reading.toml_file import read_toml

LONG = "x" * 5000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a." * 50_000 + "a = 1", "a key has more than 64 parts"),
        ("\n\n[" + "a." * 50_000 + "a]", "a key has more than 64 parts"),
        ("t = {" + "a." * 50_000 + "a = 1}", "a key has more than 64 parts"),
        (f"{LONG} = 1", "a key has 5,001 characters, expected at most 1,024"),
        (f'"{LONG}" = 1', "a key has 5,003 characters"),
        (f"[{LONG}]", "a key has 5,000 characters"),
        (f"[[{LONG}]]", "a key has 5,000 characters"),
        ("a = " + "[" * 100_000, "it is nested too deeply"),
        ("a = " + "[" * 100_000 + "]" * 100_000, "it is nested too deeply"),
        ("a = " + "{b=" * 100_000, "it is nested too deeply"),
        ("[" * 500_000, "it is nested too deeply"),
        ("x = " + f"{{ {'a.' * 60}a = " * 6 + "1" + "}" * 6, "nested too deeply"),
        ('a = "x' + "\\" * 100_001, "expected"),
    ],
)
def test_a_file_outside_the_bounds_is_refused_at_once(tmp_path: Path, text: str, told: str) -> None:
    """The problem names what is too long or too deep; nothing recurses, and nothing takes minutes."""
    path = tmp_path / "jobs.toml"
    path.write_text(text)
    began = time.process_time()
    problem = read_toml(path)
    assert isinstance(problem, Problem)
    assert problem.code == "bad_toml"
    assert told in problem.message or told == "expected"
    (found,) = with_lines([problem], tmp_path)
    assert found.line == problem.line
    assert time.process_time() - began < 5


def test_a_file_of_ten_megabytes_is_not_read(tmp_path: Path) -> None:
    """It is refused for its size."""
    path = tmp_path / "jobs.toml"
    path.write_text("a = 1\n" * 1_700_000)
    problem = parse_toml_file(path).error
    assert problem is not None
    assert problem.code == "unreadable_file"


@pytest.mark.parametrize(
    "text",
    [
        f'a = "{LONG}"',
        f'a = [\'{LONG}\', """{LONG}\n{LONG}.{LONG}"""]',
        "a = '''" + "[" * 1000 + "." * 1000 + "'''",
        "# " + "a." * 1000 + "[" * 1000,
        'a = "' + "[" * 500 + '\\"' + "." * 500 + '"',
        "\n".join(f"[[jobs]]\nx = [[1, 2], [{{a.b.c = 'd'}}]]\ny = 1.5 # {LONG}" for _ in range(200)),
        "a." * 62 + "a = 1",
        "x = " + "[" * 60 + "]" * 60,
        "a = \"\"\"x\"\"\"\"\nb = '''y''''",
        "a = [\n" + "".join(f"  '{LONG}',\n" for _ in range(10)) + "]",
        f'a = ["{LONG}"]',
    ],
)
def test_a_file_within_the_bounds_is_read(tmp_path: Path, text: str) -> None:
    """Long values, brackets and dots in texts and comments, and nesting up to the bound are nobody's problem."""
    path = tmp_path / "jobs.toml"
    path.write_text(text)
    assert not isinstance(read_toml(path), Problem)
    assert text.startswith("#") or lines_of_keys(text.encode())


def test_many_unknown_keys_are_told_up_to_a_hundred(tmp_path: Path) -> None:
    """A table of 50,000 unknown keys is answered at once, with the first hundred of them."""
    from nomaflow_project.jobs.load import load_job_files

    path = tmp_path / "jobs.toml"
    path.write_text("[[jobs]]\nid = 'a'\n" + "".join(f"unknown{number} = 1\n" for number in range(50_000)))
    began = time.process_time()
    load = load_job_files([parse_toml_file(path)], host="team")
    assert 50 <= len(load.jobs[0].problems) <= 110
    assert time.process_time() - began < 10
