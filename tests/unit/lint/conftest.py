"""Projects on disk with one plugin, linted."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from nomaflow_cli.lint.project import lint_project
from nomaflow_project.reading.problems import Problem

Lint = Callable[..., list[Problem]]
Codes = Callable[..., list[str]]


@pytest.fixture
def lint(tmp_path: Path) -> Lint:
    """Return a function that lints ``step`` of a module with the source given, or other references."""

    def lint_source(source: str, *references: str, **others: str) -> list[Problem]:
        files = {"mod": source, **others}
        for name, text in files.items():
            file = tmp_path / "plugins" / (name.replace(".", "/") + ".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text), encoding="utf-8")
        return list(lint_project(tmp_path, references or ("mod:step",)))

    return lint_source


@pytest.fixture
def codes(lint: Lint) -> Codes:
    """Return a function that lints like ``lint`` and gives the codes only."""
    return lambda *arguments, **others: [each.code for each in lint(*arguments, **others)]
