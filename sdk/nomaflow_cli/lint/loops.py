"""NF103: loops that may run for long and never check for a request to stop.

Most loops are short, and a warning about them would be useless. These may be long:

- ``while``, unless it empties a collection of its own (``while queue: item = queue.pop()``);
- ``for`` over an endless iterable, or over a range of a million or more, or of a parameter's size;
- in a plain function, ``for`` over anything but literals with a blocking call inside, or with a body that passes each
  item to a function for its effect (``for item in items: process(item)``).

A loop is fine if it calls ``is_cancelled()``, passes ``ctx`` on, or, in a coroutine, awaits.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomaflow_cli.lint.blocking import blocking_name
from nomaflow_cli.lint.findings import Sighting, sighting
from nomaflow_cli.lint.scopes import FunctionNode, dotted, own_nodes, parameters_of

if TYPE_CHECKING:
    from nomaflow_cli.lint.sources import SourceModule

__all__ = ["check_loops"]

_Loop = ast.While | ast.For

_LONG = 1_000_000
_BLOCKING_METHODS = frozenset(
    {
        "execute", "executemany", "commit", "communicate", "recv", "sendall", "sendmail", "upload_file",
        "download_file", "put_object", "get_object",
    }
)  # fmt: skip
_POPPING = frozenset({"pop", "popleft", "popitem"})
_WRAPPERS = frozenset({"enumerate", "reversed", "sorted", "zip", "list", "tuple", "set"})
_VIEWS = frozenset({"items", "keys", "values"})
_LITERALS = (ast.Tuple, ast.List, ast.Set, ast.Dict, ast.Constant)


def check_loops(function: FunctionNode, module: SourceModule) -> Iterator[Sighting]:
    """Yield the outermost loops of a callable that may run for long and never check for a request to stop."""
    check = _Check(function=function, module=module)
    stack: list[ast.AST] = function.body[::-1]  # type: ignore[assignment]  # statements are nodes
    while stack:
        node = stack.pop()
        if isinstance(node, _Loop):
            if check.asks(node):
                continue
            why = check.may_be_long(node)
            if why:
                header = node.test if isinstance(node, ast.While) else node.iter
                message = f"a loop in {function.name!r} ({why}) never asks whether it is to stop"
                yield sighting("NF103", node, message, last_line=header.end_lineno or node.lineno)
                continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            stack.extend(list(ast.iter_child_nodes(node))[::-1])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Check:
    function: FunctionNode
    module: SourceModule

    @property
    def is_coroutine(self) -> bool:
        return isinstance(self.function, ast.AsyncFunctionDef)

    def asks(self, loop: _Loop) -> bool:
        return any(self._is_question(node) for node in ast.walk(loop))

    def _is_question(self, node: ast.AST) -> bool:
        match node:
            case ast.Attribute(attr="is_cancelled") | ast.Name(id="is_cancelled"):
                return True
            case ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                return self.is_coroutine
            case ast.Call():
                given = [*node.args, *(each.value for each in node.keywords)]
                return any(isinstance(each, ast.Name) and each.id == "ctx" for each in given)
        return False

    def may_be_long(self, loop: _Loop) -> str:
        """Return why a loop may run for long, empty if there is no sign of it."""
        if isinstance(loop, ast.While):
            return "" if self._empties(loop) else "while"
        endless = self._endless(loop.iter)
        if endless or self.is_coroutine or self._is_literal(loop.iter):
            return endless
        return self._work(loop)

    def _empties(self, loop: ast.While) -> bool:
        """Return True for ``while queue: … queue.pop()`` without a blocking call."""
        tested = {node.id for node in ast.walk(loop.test) if isinstance(node, ast.Name)}
        popped = {
            node.func.value.id
            for node in ast.walk(loop)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _POPPING
            and isinstance(node.func.value, ast.Name)
        }
        return bool(tested & popped) and not self._blocks(loop)

    def _endless(self, iterable: ast.expr) -> str:
        if not isinstance(iterable, ast.Call):
            return ""
        name = dotted(iterable.func, self.module.imports)
        if name in ("itertools.count", "itertools.cycle") or (name == "iter" and len(iterable.args) == 2):
            return f"over {name}(), which has no end of its own"
        if name == "enumerate" and iterable.args:
            return self._endless(iterable.args[0])
        if name != "range" or not iterable.args:
            return ""
        stop = iterable.args[0 if len(iterable.args) == 1 else 1]
        if isinstance(stop, ast.Name) and stop.id in {each.arg for each in parameters_of(self.function)}:
            return f"over a range of the parameter {stop.id!r}"
        return "over a long range" if (_number(stop) or 0) >= _LONG else ""

    def _is_literal(self, iterable: ast.expr) -> bool:
        match iterable:
            case ast.Call(func=ast.Name(id=name)) if name in _WRAPPERS:
                return all(self._is_literal(each) for each in iterable.args)
            case ast.Call(func=ast.Name(id="range")):
                return _number(iterable.args[-1]) is not None if iterable.args else False
            case ast.Call(func=ast.Attribute(attr=attribute, value=value)) if attribute in _VIEWS:
                return self._is_literal(value)
            case ast.Name(id=name):
                bound = self.module.bindings.get(name)
                return isinstance(bound, ast.Assign | ast.AnnAssign) and isinstance(bound.value, _LITERALS)
        return isinstance(iterable, _LITERALS)

    def _work(self, loop: ast.For) -> str:
        name = self._blocks(loop)
        if name:
            return f"with {name}() for each item"
        targets = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
        for node in own_nodes(loop.body):
            match node:
                case ast.Expr(value=ast.Call(func=ast.Name(id=called), args=args)) if called in self.module.bindings:
                    if targets & {each.id for each in args if isinstance(each, ast.Name)}:
                        return f"with {called}() for each item"
        return ""

    def _blocks(self, loop: _Loop) -> str:
        for node in own_nodes(loop.body):
            name = blocking_name(node, self.module.imports)
            if name:
                return name
            method = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            if method in _BLOCKING_METHODS:
                return method
        return ""


def _number(node: ast.expr, depth: int = 8) -> int | None:
    """Return the value of an int written as a literal, or as a product or power of literals."""
    if depth == 0:
        return None
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            factors = _number(left, depth - 1), _number(right, depth - 1)
            return None if factors[0] is None or factors[1] is None else factors[0] * factors[1]
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(exponent))):
            base = _number(left, depth - 1)
            return base**exponent if base is not None and 0 <= exponent <= 64 and abs(base) <= _LONG else None
    return None
