"""Mutants: small ways in which the product could be wrong, each with the tests that notice.

A mutant is an exact text of a file that occurs there once, what takes its place, why that would be bad, and the tests
that must fail then. They are kept in TOML beside this module.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Edit", "Mutant", "MutantError", "load_mutants"]


class MutantError(Exception):
    """Raised if a mutant is malformed or no longer fits the code; the text names it and the way out."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One replacement: ``old`` occurs exactly once in ``file``."""

    file: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        """Return the text of the file with the replacement.

        :raises MutantError: where ``old`` does not occur exactly once
        """
        count = text.count(self.old)
        if count != 1:
            raise MutantError(f"{self.file} has {self.old.strip()!r} {count} times, expected once; adapt the mutant")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One way to be wrong.

    :param tests: ids of pytest of which at least one fails
    """

    name: str
    reason: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]

    def texts(self, root: Path) -> dict[Path, str]:
        """Return the files it changes, with their new text.

        :raises MutantError: where it does not fit the code
        """
        texts: dict[Path, str] = {}
        for edit in self.edits:
            path = root / edit.file
            if not path.is_file():
                raise MutantError(f"{self.name}: there is no file {edit.file}; adapt the mutant")
            try:
                texts[path] = edit.applied(texts.get(path) or path.read_text(encoding="utf-8"))
            except MutantError as error:
                raise MutantError(f"{self.name}: {error}") from None
        return texts


def load_mutants(directory: Path) -> list[Mutant]:
    """Return all mutants, in the order of files and within them.

    :raises MutantError: where one lacks something, or two have one name
    """
    mutants: list[Mutant] = []
    for file in sorted(directory.glob("*.toml")):
        tables = tomllib.loads(file.read_text(encoding="utf-8"))["mutants"]
        mutants += [_mutant(file.name, table) for table in tables]
    names = [each.name for each in mutants]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise MutantError(f"two mutants have the name {repeated[0]!r}; rename one")
    return mutants


def _mutant(file: str, table: Mapping[str, Any]) -> Mutant:
    edits = table.get("edits", [table])
    try:
        mutant = Mutant(
            name=table["name"],
            reason=table["reason"],
            edits=tuple(Edit(file=each["file"], old=each["old"], new=each["new"]) for each in edits),
            tests=tuple(table["tests"]),
        )
    except KeyError as error:
        raise MutantError(f"a mutant of {file} has no {error}; see README.md for the form") from None
    if not mutant.tests:
        raise MutantError(f"{mutant.name} names no test that notices it; write one")
    return mutant
