"""The findings of the lint: a mistake, its place, and the way out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nomaflow_cli.lint.rules import RULES

if TYPE_CHECKING:
    import ast

__all__ = ["Finding", "Sighting", "sighting"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A mistake in the source of a callable.

    :param code: a key of `nomaflow_cli.lint.RULES`, such as ``NF101``
    :param file: relative to the project's folder, with ``/``
    :param line: from 1
    :param column: from 1, in characters
    :param severity: always ``warning``: no finding disables a job
    """

    code: str
    file: str
    line: int
    column: int
    message: str
    fix: str
    severity: str = "warning"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.code} {self.message} ({self.fix})"

    def to_json(self) -> dict[str, Any]:
        """Return the finding as a JSON-ready dict."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """A possible finding: a comment on its lines may silence it.

    :param column: from 0, in UTF-8 bytes, as `ast` counts
    :param first_line: with ``last_line``: the lines on which a comment silences it, those of the statement
    """

    code: str
    line: int
    column: int
    first_line: int
    last_line: int
    message: str
    fix: str


def sighting(
    code: str, node: ast.stmt | ast.expr | ast.arg | ast.excepthandler, message: str, **places: int
) -> Sighting:
    """Return a sighting at a node, with the fix of its rule.

    :param places: ``first_line`` and ``last_line`` if they are not the node's own
    """
    return Sighting(
        code=code,
        line=node.lineno,
        column=node.col_offset,
        first_line=places.get("first_line", node.lineno),
        last_line=places.get("last_line", node.end_lineno or node.lineno),
        message=message,
        fix=RULES[code].fix,
    )
