"""References to variables of the environment, in the texts of a tree."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from nomaflow_project.reading.environment import names_in, resolve_tree
from nomaflow_project.reading.sources import EnvironmentMissing

DAY = dt.date(2026, 1, 31)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("${A}", "1"), ("x${A}y${A}", "x1y1"), ("${B:-d}", "d"), ("${B:-}", ""), ("${E:-d}", "d"), ("${E}", ""),
        ("$${A}", "${A}"), ("$A {A} ${} ${1}", "$A {A} ${} ${1}"), ({"a": ["${A}", 1, DAY]}, {"a": ["1", 1, DAY]}),
        ({"${A}": "k"}, {"${A}": "k"}),
    ],
)  # fmt: skip
def test_environment_references(tree: Any, expected: Any) -> None:
    """References resolve in texts at any depth, with a shell's rule for defaults."""
    assert resolve_tree(tree, {"A": "1", "E": ""}) == expected


def test_missing_environment() -> None:
    """A missing variable is named with its place; the names in a tree can be listed."""
    with pytest.raises(EnvironmentMissing, match=r"op\.a\[0\]: the environment variable 'B' is not set"):
        resolve_tree({"a": ["${B}"]}, {}, path="op")
    assert names_in({"a": ["${B} ${C:-x}", {"d": "$${E}"}]}) == {"B", "C"}
