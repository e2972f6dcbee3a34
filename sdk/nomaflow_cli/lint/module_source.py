"""The modules of the plugin folders as source text, each read once, and the mistakes that are found in them."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_MAX_BYTES = 4 * 1024 * 1024
_NOQA = re.compile(r"#\s*noqa(?:\s*:\s*(?P<codes>[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*))?", re.IGNORECASE)
FIXES: Mapping[str, str] = {
    "NF101": "put *, before the first parameter",
    "NF103": "ask ctx.is_cancelled() in the loop and raise StepCancelled, or, in an async def, await in it",
    "NF104": "let the exception out, raise again after logging, or catch only what you expect",
    "NF105": "do not catch it, or raise again after cleaning up",
    "NF108": "await the async variant, or wrap the call in await asyncio.to_thread(...)",
    "NF109": "await it, in an async def; in a plain def use pools.sync_engine or asyncio.run(...)",
}
"""The way out of each mistake; docs/plugin_guide.md has the mistakes and what their authors see."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceModule:
    """A parsed module.

    :param bindings: name to the last statement of the module that binds it
    :param imports: name to its imported full name, such as ``{"sleep": "time.sleep"}``; imports in functions included
    :param silenced: line to the codes that its ``# noqa: NF101`` silences; empty for all codes, as ``# noqa`` does
    """

    file: Path
    bindings: Mapping[str, ast.stmt] = field(repr=False)
    imports: Mapping[str, str] = field(repr=False)
    silenced: Mapping[int, frozenset[str]] = field(repr=False)

    def silences(self, seen: Sighting) -> bool:
        """Return True if a comment on one of the sighting's lines names its code, or no code at all."""
        place = seen.within or seen.node
        first, last = place.lineno, place.end_lineno or place.lineno
        if body := getattr(place, "body", None):
            last = max(first, body[0].lineno - 1)
        found = [self.silenced[line] for line in range(first, last + 1) if line in self.silenced]
        return any(not codes or seen.code in codes for codes in found)


class Sources:
    """Finds the modules below a folder."""

    def __init__(self, folder: Path) -> None:
        """Read no module yet."""
        self._folder = folder
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
        place = self._folder.joinpath(*parts)
        file = place.with_name(f"{parts[-1]}.py")
        try:
            if (place / "__init__.py").is_file():
                return place / "__init__.py", True
            return (file if file.is_file() else None), False
        except OSError:  # a part is longer than the name of a file may be
            return None, False


def _parsed(name: str, file: Path, *, is_package: bool) -> SourceModule | None:
    """Return a module, or None if it cannot be parsed, which the check of imports reports."""
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            return None
        tree = ast.parse(content)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    package = name if is_package else name.rpartition(".")[0]
    return SourceModule(
        file=file,
        bindings=_bindings(tree.body),
        imports=_imports(tree, package),
        silenced=_silenced(content),
    )


def _silenced(source: bytes) -> dict[int, frozenset[str]]:
    found: dict[int, frozenset[str]] = {}
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            match = _NOQA.search(token.string) if token.type == tokenize.COMMENT else None
            if match:
                found[token.start[0]] = frozenset(re.split(r"[,\s]+", (match["codes"] or "").upper())) - {""}
    except (tokenize.TokenError, SyntaxError):
        return found  # the lines read so far count; the parser has accepted the file
    return found


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


@dataclass(frozen=True, slots=True)
class Sighting:
    """A mistake in the source of a callable: a comment on its lines, or those before its body, may silence it.

    :param within: the function on whose lines a comment silences it; None for the node itself
    """

    code: str
    node: ast.stmt | ast.expr | ast.arg | ast.excepthandler
    message: str
    within: ast.stmt | None = None
