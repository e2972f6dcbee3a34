"""References to the environment: defaults, literals, NAME_FILE, and the variables of env_file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nomaflow_project.reading.env_files import project_variables
from nomaflow_project.reading.environment import (
    Unresolved,
    names_in,
    resolve_environment,
    resolve_text,
)
from nomaflow_project.reading.sources import VariableUnreadable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${SET} and ${SET}", "here and here"),
        ("${EMPTY}", ""),
        ("${EMPTY:-default}", "default"),
        ("${UNSET:-}", ""),
        ("${UNSET:-a b}", "a b"),
        ("$${SET}", "${SET}"),
        ("$${UNSET}", "${UNSET}"),
        ("$$$${SET}", "$$${SET}"),
        ("${not closed", "${not closed"),
        ("${1A} $SET", "${1A} $SET"),
    ],
)
def test_references(text: str, expected: str) -> None:
    """Set, empty and unset variables, defaults and literals."""
    assert resolve_text(text, {"SET": "here", "EMPTY": ""}) == expected


def test_a_file_stands_for_an_unset_variable(tmp_path: Path) -> None:
    """The file's last newline is removed, and no other; an empty variable counts as unset."""
    file = tmp_path / "secret"
    for content, expected in ((b"pw\n\n", "pw\n"), (b"pw\r\n", "pw"), (b" pw", " pw"), (b"", "")):
        file.write_bytes(content)
        assert resolve_text("<${DB}>", {"DB_FILE": str(file)}) == f"<{expected}>"
    file.write_bytes(b"pw")
    assert resolve_text("<${DB}>", {"DB_FILE": str(file), "DB": ""}) == "<pw>"
    file.write_bytes(b"")
    assert resolve_text("<${DB:-x}>", {"DB_FILE": str(file)}) == "<x>"


def test_a_variable_counts_before_its_file(tmp_path: Path) -> None:
    """The file is not even read."""
    assert resolve_text("${DB}", {"DB_FILE": str(tmp_path / "x"), "DB": "set"}) == "set"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing one, a folder, a pipe, a relative path, one too large, and no text; no default counts."""
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "none": "no such file",
        ".": "is a directory",
        "pipe": "not a regular file",
        "large": "larger than",
        "binary": "not UTF-8",
    }.items():
        file = str(tmp_path / name)
        for text in ("${DB}", "${DB:-d}"):
            with pytest.raises(VariableUnreadable, match=words) as caught:
                resolve_text(text, {"DB_FILE": file}, path="pools.p.url")
            assert "DB_FILE" in caught.value.problem
            assert file.rstrip("/.") in caught.value.problem
            assert caught.value.path == "pools.p.url"
    with pytest.raises(VariableUnreadable, match="absolute"):
        resolve_text("${DB}", {"DB_FILE": "secret"})


def test_a_lenient_tree_marks_what_is_missing() -> None:
    """A text that lacks a variable is marked; a literal reference is not, and params are left alone."""
    tree = {"a": ["${NO}", "$${NO}"], "params": {"p": "${NO}"}}
    resolved = resolve_environment(tree, {})
    assert resolved == {"a": ["${NO}", "${NO}"], "params": {"p": "${NO}"}}
    marked = [type(each) is Unresolved for each in (*resolved["a"], resolved["params"]["p"])]
    assert marked == [True, False, False]
    assert json.loads(json.dumps(resolved)) == resolved
    assert names_in(tree) == {"NO"}


ENV = """\
# comment
A=1
export B = two words # comment
C="x # y\\n\\"q\\"" # z
D='a"b\\n'
E=
F=a#b
  G = 'two
lines'
this line hunter2 is none
H="open
J=ok
K=he\0llo
"""


def test_the_variables_of_a_project(tmp_path: Path) -> None:
    """Quotes, comments and export; the process wins, a later file over an earlier; no message quotes a line."""
    (tmp_path / "a.env").write_text(ENV)
    (tmp_path / "b.env").write_text("A=later\nSHARED=file\n")
    settings = {"host": {"env_file": ["a.env", "${WHERE}/b.env", "none.env"]}}
    found = project_variables(tmp_path, settings, {"SHARED": "process", "WHERE": str(tmp_path)})
    assert found.given == {
        "A": "later",
        "B": "two words",
        "C": 'x # y\n"q"',
        "D": 'a"b\\n',
        "E": "",
        "F": "a#b",
        "G": "two\nlines",
        "J": "ok",
        "SHARED": "file",
    }
    assert found.environ["SHARED"] == "process"
    told = [(each.code, each.file, each.message) for each in found.problems]
    assert told == [
        ("bad_variable", "a.env", "line 10 is not NAME=value"),
        ("bad_variable", "a.env", "line 11 is not NAME=value"),
        ("bad_variable", "a.env", "line 13 has a NUL byte in its value"),
        ("missing_file", "nomaflow.toml", "there is no file 'none.env'"),
    ]


@pytest.mark.parametrize(
    ("text", "mode", "warned"),
    [
        ("DB_PASSWORD=x", 0o644, True),
        ("URL=postgresql://u:x@h/d", 0o640, True),
        ("DB_PASSWORD=x", 0o600, False),
        ("COLOUR=red\nDB_PASSWORD_FILE=/run/x", 0o644, False),
    ],
)
def test_an_open_file_with_credentials_is_a_warning(tmp_path: Path, text: str, mode: int, *, warned: bool) -> None:
    """A credential shows by the variable's name, or as the password of a URL."""
    file = tmp_path / ".env"
    file.write_text(text)
    file.chmod(mode)
    problems = project_variables(tmp_path, {"host": {"env_file": ".env"}}, {}).problems
    assert [(each.code, each.is_error) for each in problems] == ([("open_credential", False)] if warned else [])
