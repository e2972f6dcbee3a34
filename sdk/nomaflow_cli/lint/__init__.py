"""What ``nomaflow check`` says about the code of callables, from the source text alone: no plugin is imported."""

from __future__ import annotations

from nomaflow_cli.lint.findings import Finding
from nomaflow_cli.lint.project import lint_project
from nomaflow_cli.lint.rules import RULES, Rule

__all__ = ["RULES", "Finding", "Rule", "lint_project"]
