"""The page of ``nomaflow doctor``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nomaflow_cli.doctor import Finding, Level
from nomaflow_cli.wording import count, printable

__all__ = ["doctor_page"]

_SIGNS = {Level.OK: ("✔", "green"), Level.WARNING: ("▲", "yellow"), Level.PROBLEM: ("✘", "red")}


def doctor_page(findings: Sequence[Finding]) -> RenderableType:
    """Return every finding under its subject, with its remedy, and a verdict."""
    lines: list[RenderableType] = []
    for area, group in itertools.groupby(findings, key=lambda finding: finding.area):
        lines.extend((Text(area, style="bold"), _rows(group)))
    return Group(*lines, Text(""), _verdict(findings))


def _rows(findings: Iterable[Finding]) -> RenderableType:
    rows = Table.grid(padding=(0, 1, 0, 0))
    rows.add_column(width=3, justify="right")
    rows.add_column()
    for finding in findings:
        sign, style = _SIGNS[finding.level]
        rows.add_row(Text(sign, style=style), printable(finding.message))
        if finding.fix:
            rows.add_row("", Text(f"→ {printable(finding.fix)}", style="dim"))
    return rows


def _verdict(findings: Sequence[Finding]) -> Text:
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    if problems:
        return Text(f"{count(problems, 'problem')}, {count(warnings, 'warning')}", style="red")
    if warnings:
        return Text(f"no problem, {count(warnings, 'warning')}", style="yellow")
    return Text("no problems found", style="green")
