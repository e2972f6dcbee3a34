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

from nomaflow_cli.lint.calls import blocking_name
from nomaflow_cli.lint.module_source import Sighting
from nomaflow_cli.lint.scopes import Scope, own_nodes

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


def check_loops(scope: Scope) -> Iterator[Sighting]:
    """Yield the outermost loops of a callable that may run for long and never check for a request to stop."""
    seen_to = 0  # the last line of a loop that asks, or is reported: the loops inside it are covered
    for loop in scope.nodes:
        if not isinstance(loop, _Loop) or loop.lineno <= seen_to:
            continue
        asks = any(_is_question(scope, node) for node in ast.walk(loop))
        why = "" if asks else _may_be_long(scope, loop)
        if why:
            yield Sighting("NF103", loop, f"a loop in {scope.name} ({why}) never asks whether it must stop")
        if asks or why:
            seen_to = loop.end_lineno or loop.lineno


def _is_question(scope: Scope, node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr="is_cancelled") | ast.Name(id="is_cancelled"):
            return True
        case ast.Await() | ast.AsyncFor() | ast.AsyncWith():
            return scope.is_coroutine
        case ast.Call():
            given = [*node.args, *(each.value for each in node.keywords)]
            return any(isinstance(each, ast.Name) and each.id == "ctx" for each in given)
    return False


def _may_be_long(scope: Scope, loop: _Loop) -> str:
    """Return why a loop may run for long, empty if there is no sign of it."""
    if isinstance(loop, ast.While):
        return "" if _empties(scope, loop) else "while"
    endless = _endless(scope, loop.iter)
    if endless or scope.is_coroutine or _is_literal(scope, loop.iter):
        return endless
    return _work(scope, loop)


def _empties(scope: Scope, loop: ast.While) -> bool:
    """Return True for ``while queue: … queue.pop()`` without a blocking call."""
    tested = {node.id for node in ast.walk(loop.test) if isinstance(node, ast.Name)}
    for node in ast.walk(loop):
        match node:
            case ast.Call(func=ast.Attribute(attr=method, value=ast.Name(id=name))):
                if method in _POPPING and name in tested:
                    return not _blocks(scope, loop)
    return False


def _endless(scope: Scope, iterable: ast.expr) -> str:
    if not isinstance(iterable, ast.Call):
        return ""
    name = scope.dotted(iterable.func)
    if name in ("itertools.count", "itertools.cycle") or (name == "iter" and len(iterable.args) == 2):
        return f"over {name}(), which has no end of its own"
    if name == "enumerate" and iterable.args:
        return _endless(scope, iterable.args[0])
    if name != "range" or not iterable.args:
        return ""
    stop = iterable.args[0 if len(iterable.args) == 1 else 1]
    if isinstance(stop, ast.Name) and stop.id in scope.parameters:
        return f"over a range of the parameter {stop.id!r}"
    return "over a long range" if (_number(stop) or 0) >= _LONG else ""


def _is_literal(scope: Scope, iterable: ast.expr) -> bool:
    match iterable:
        case ast.Call(func=ast.Name(id=name)) if name in _WRAPPERS:
            return all(_is_literal(scope, each) for each in iterable.args)
        case ast.Call(func=ast.Name(id="range")):
            return _number(iterable.args[-1]) is not None if iterable.args else False
        case ast.Call(func=ast.Attribute(attr=attribute, value=value)) if attribute in _VIEWS:
            return _is_literal(scope, value)
        case ast.Name(id=name):
            bound = scope.module.bindings.get(name)
            return isinstance(bound, ast.Assign | ast.AnnAssign) and isinstance(bound.value, _LITERALS)
    return isinstance(iterable, _LITERALS)


def _work(scope: Scope, loop: ast.For) -> str:
    name = _blocks(scope, loop)
    if name:
        return f"with {name}() for each item"
    targets = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
    for node in own_nodes(loop.body):
        match node:
            case ast.Expr(value=ast.Call(func=ast.Name(id=called), args=args)) if called in scope.module.bindings:
                if targets & {each.id for each in args if isinstance(each, ast.Name)}:
                    return f"with {called}() for each item"
    return ""


def _blocks(scope: Scope, loop: _Loop) -> str:
    for node in own_nodes(loop.body):
        method = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
        name = blocking_name(scope, node) or (method if method in _BLOCKING_METHODS else "")
        if name:
            return name
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
