"""Mutants: small ways in which the product could be wrong, each with the tests that notice.

A mutant names a function, a class or a constant, one short piece of code in it, and the code that takes its place. They
are kept in the TOML files beside this module; README.md describes the form.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PACKAGES", "Edit", "Mutant", "MutantError", "load_mutants"]

PACKAGES = (
    "protos",
    "sdk",
    "kernel",
    "plugin_host",
    "plugins",
    "plugins/console",
    "plugins/alerts",
    "plugins/launchers",
)
"""The folders of the tree that hold the product's packages."""

_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class MutantError(Exception):
    """Raised if a mutant is malformed or no longer fits the code; the text names it and the way out."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One replacement.

    :param at: ``package.module:Class.method``, ``package.module:CONSTANT``, or ``package.module`` for all of it
    :param code: an expression, a statement or a piece of a string literal that occurs there once; empty for the
        beginning of the function
    :param instead: the code that takes its place; empty if the statement is dropped
    """

    at: str
    code: str
    instead: str

    def file(self, root: Path) -> Path:
        """Return the file of the module.

        :raises MutantError: if there is no such module
        """
        module = self.at.partition(":")[0].replace(".", "/")
        for package in PACKAGES:
            for path in (root / package / f"{module}.py", root / package / module / "__init__.py"):
                if path.is_file():
                    return path
        raise MutantError(f"there is no module {self.at.partition(':')[0]}; {self._way_out(root)}")

    def apply(self, tree: ast.Module, root: Path) -> None:
        """Change the tree of the module.

        :raises MutantError: if the function is gone, or the code does not occur in it exactly once
        """
        scopes: list[ast.AST] = [tree]
        for name in filter(None, self.at.partition(":")[2].split(".")):
            scopes = [each for scope in scopes for each in _statements(scope) if name in _names(each)]
        if not scopes:
            raise MutantError(f"there is no {self.at}; {self._way_out(root)}")
        instead = ast.parse(self.instead).body
        if not self.code:
            for scope in scopes:
                assert isinstance(scope, _SCOPES)
                start = int(ast.get_docstring(scope) is not None)
                scope.body[start:start] = instead
            return
        pattern: ast.AST = ast.parse(self.code).body[0]
        if isinstance(pattern, ast.Expr) and len(instead) == 1 and isinstance(instead[0], ast.Expr):
            pattern, instead = pattern.value, [instead[0].value]  # type: ignore[list-item]  # expressions from here on
        places = [place for scope in scopes for place in _places(scope) if _found(pattern, place.node)]
        if len(places) != 1:
            raise MutantError(f"{self.at} has {self.code!r} {len(places)} times, expected once; adapt the mutant")
        places[0].put(instead, pattern)

    def _way_out(self, root: Path) -> str:
        name = self.at.rpartition(":")[2].rpartition(".")[2]
        wanted = (f"def {name}(", f"class {name}:", f"class {name}(", f"\n{name} = ", f"\n{name}: ")
        files = sorted(
            str(path.relative_to(root))
            for package in PACKAGES
            for path in (root / package).rglob("*.py")
            if any(text in path.read_text(encoding="utf-8") for text in wanted)
        )
        return f"adapt the mutant ({name} is in {', '.join(files[:3])})" if files else "adapt the mutant"


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A node, and the list or the field of another node that holds it."""

    node: ast.AST
    holder: Any
    key: Any

    def put(self, instead: list[Any], pattern: ast.AST) -> None:
        """Replace the node; of a string literal only the piece that the pattern names."""
        if isinstance(pattern, ast.Constant) and isinstance(pattern.value, str):
            assert isinstance(self.node, ast.Constant)
            assert isinstance(self.node.value, str)
            self.node.value = self.node.value.replace(pattern.value, instead[0].value)
        elif isinstance(self.holder, list):
            self.holder[self.key : self.key + 1] = instead
            if not self.holder:
                self.holder.append(ast.Pass())
        else:
            setattr(self.holder, self.key, instead[0])


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One way to be wrong.

    :param file: name of its file, without the suffix
    :param tests: ids of pytest of which at least one fails
    """

    file: str
    name: str
    reason: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]

    def trees(self, root: Path) -> dict[Path, ast.Module]:
        """Return the modules it changes, as changed.

        :raises MutantError: if it does not fit the code
        """
        trees: dict[Path, ast.Module] = {}
        try:
            for edit in self.edits:
                path = edit.file(root)
                if path not in trees:
                    trees[path] = ast.parse(path.read_text(encoding="utf-8"))
                edit.apply(trees[path], root)
        except MutantError as error:
            raise MutantError(f"{self.name}: {error}") from None
        return {path: ast.fix_missing_locations(tree) for path, tree in trees.items()}


def load_mutants(directory: Path) -> list[Mutant]:
    """Return all mutants, in the order of files and within them.

    :raises MutantError: if a mutant lacks a key, or two have the same name
    """
    mutants: list[Mutant] = []
    for file in sorted(directory.glob("*.toml")):
        tables = tomllib.loads(file.read_text(encoding="utf-8"))["mutants"]
        mutants += [_mutant(file.stem, table) for table in tables]
    names = [each.name for each in mutants]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise MutantError(f"two mutants have the name {repeated[0]!r}; rename one")
    return mutants


def _mutant(file: str, table: Mapping[str, Any]) -> Mutant:
    edits = table.get("edits", [table])
    try:
        mutant = Mutant(
            file=file,
            name=table["name"],
            reason=table["reason"],
            edits=tuple(Edit(at=each["at"], code=each.get("code", ""), instead=each["instead"]) for each in edits),
            tests=tuple(table["tests"]),
        )
    except KeyError as error:
        raise MutantError(f"a mutant of {file}.toml has no {error}; see README.md for the form") from None
    if not mutant.tests:
        raise MutantError(f"{mutant.name} names no test that notices it; write one")
    return mutant


def _statements(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements of a module, class or function, without those of classes and functions in it."""
    for node in ast.iter_child_nodes(scope):
        yield node
        if isinstance(node, ast.stmt) and not isinstance(node, _SCOPES):
            yield from _statements(node)


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, _SCOPES):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _places(scope: ast.AST) -> Iterator[_Place]:
    for node in ast.walk(scope):
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                for index, each in enumerate(value):
                    if isinstance(each, ast.AST):
                        yield _Place(node=each, holder=value, key=index)
            elif isinstance(value, ast.AST):
                yield _Place(node=value, holder=node, key=field)


def _found(pattern: ast.AST, node: ast.AST) -> bool:
    if isinstance(pattern, ast.Constant) and isinstance(pattern.value, str):
        return isinstance(node, ast.Constant) and isinstance(node.value, str) and pattern.value in node.value
    return _fits(pattern, node)


def _fits(pattern: Any, found: Any) -> bool:
    """Tell if two pieces of code are the same; ``...`` fits any expression, and all arguments of a call."""
    if _is_dots(pattern) and isinstance(found, ast.expr):
        return True
    if isinstance(pattern, list):
        same_length = isinstance(found, list) and len(pattern) == len(found)
        return same_length and all(_fits(*pair) for pair in zip(pattern, found, strict=True))
    if not isinstance(pattern, ast.AST):
        return type(pattern) is type(found) and bool(pattern == found)
    if type(pattern) is not type(found):
        return False
    if isinstance(pattern, ast.Call) and len(pattern.args) == 1 and _is_dots(pattern.args[0]):
        return _fits(pattern.func, found.func)  # type: ignore[attr-defined]  # of the same type
    return all(_fits(value, getattr(found, field)) for field, value in ast.iter_fields(pattern))


def _is_dots(node: Any) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...
