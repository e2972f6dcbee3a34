"""The lint of ``nomaflow check``: it reads the source text of callables and imports no plugin."""

from __future__ import annotations

from nomaflow_cli.lint.project import lint_project
from nomaflow_cli.lint.rules import RULES

__all__ = ["RULES", "lint_project"]
