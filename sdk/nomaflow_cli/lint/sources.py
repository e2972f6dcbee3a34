"""The modules of the plugin folders as source text, each read once."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nomaflow_cli.lint.silencing import silenced_codes

__all__ = ["SourceModule", "Sources"]

_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceModule:
    """A parsed module.

    :param name: dotted
    :param bindings: name to the last statement of the module that binds it
    :param imports: name to its imported full name, such as ``{"sleep": "time.sleep"}``; imports in functions included
    :param silenced: see `silenced_codes`
    """

    name: str
    file: Path
    lines: tuple[str, ...] = field(repr=False)
    bindings: Mapping[str, ast.stmt] = field(repr=False)
    imports: Mapping[str, str] = field(repr=False)
    silenced: Mapping[int, frozenset[str] | None] = field(repr=False)


class Sources:
    """Finds modules below folders; the first folder that has one wins."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Read no module yet."""
        self._folders = folders
        self._read: dict[str, SourceModule | None] = {}

    def module(self, name: str) -> SourceModule | None:
        """Return the module *name*, or None if there is none here, or it cannot be read or parsed."""
        if name not in self._read:
            file, is_package = self._find(name)
            self._read[name] = _parsed(name, file, is_package=is_package) if file else None
        return self._read[name]

    def _find(self, name: str) -> tuple[Path | None, bool]:
        parts = name.split(".")
        if not all(part.isidentifier() for part in parts):
            return None, False
        for folder in self._folders:
            place = folder.joinpath(*parts)
            if (place / "__init__.py").is_file():
                return place / "__init__.py", True
            if place.with_name(f"{parts[-1]}.py").is_file():
                return place.with_name(f"{parts[-1]}.py"), False
        return None, False


def _parsed(name: str, file: Path, *, is_package: bool) -> SourceModule | None:
    """Return a module, or None if it cannot be parsed, which the check of imports reports."""
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            return None
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        source = content.decode(encoding).replace("\r\n", "\n").removeprefix("\ufeff")
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    package = name if is_package else name.rpartition(".")[0]
    return SourceModule(
        name=name,
        file=file,
        lines=tuple(source.split("\n")),
        bindings=_bindings(tree.body),
        imports=_imports(tree, package),
        silenced=silenced_codes(source),
    )


def _bindings(body: Sequence[ast.stmt]) -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for statement in _statements(body):
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found[statement.name] = statement
            case ast.Assign():
                found.update({each.id: statement for each in statement.targets if isinstance(each, ast.Name)})
            case ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = statement
            case ast.Import() | ast.ImportFrom():
                found.update({(each.asname or each.name).split(".")[0]: statement for each in statement.names})
            case _:
                continue
    return found


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, including those below ``if``, ``try`` and ``with``."""
    stack = list(body)[::-1]
    while stack:
        statement = stack.pop()
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            handlers = statement.handlers if isinstance(statement, ast.Try) else []
            blocks = [statement.body, *(each.body for each in handlers), getattr(statement, "orelse", [])]
            stack.extend([each for block in blocks for each in block][::-1])


def _imports(tree: ast.Module, package: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                name = each.asname or each.name.split(".")[0]
                found[name] = each.name if each.asname else name
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, package)
            found.update({each.asname or each.name: f"{origin}.{each.name}" for each in node.names})
    return found


def _origin(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    kept = parts[: len(parts) - (node.level - 1)]
    return ".".join([*kept, *([node.module] if node.module else [])])
