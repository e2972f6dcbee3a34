"""NF109: coroutines that are created and never awaited.

These are known to create one: the queries of ``connectors.sql(…)``, the calls of ``connectors.api(…)``, coroutine
functions of the same module and of the function itself (undecorated, since a decorator may change anything), and a few
of asyncio. A coroutine that is returned, stored or passed to another function may be awaited there and is no finding.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomaflow_cli.lint.findings import Sighting, sighting
from nomaflow_cli.lint.scopes import FunctionNode, dotted, own_nodes, parameters_of
from nomaflow_cli.lint.value_kinds import ValueKinds

if TYPE_CHECKING:
    from nomaflow_cli.lint.sources import SourceModule

__all__ = ["check_awaits"]

_METHODS: Mapping[str, frozenset[str]] = {
    "sql": frozenset({"fetch_all", "fetch_one", "fetch_value", "execute"}),
    "api": frozenset({"request", "call"}),
}
_ASYNCIO = frozenset({"asyncio.sleep", "asyncio.wait_for", "asyncio.to_thread"})
_READERS = frozenset({"len", "list", "tuple", "set", "dict", "sorted", "sum", "int", "float", "bool", "str", "print"})
_OF_COROUTINES = frozenset({"close", "send", "throw"})


def check_awaits(function: FunctionNode, module: SourceModule) -> Iterator[Sighting]:
    """Yield the calls in a function that make a coroutine which nothing can await."""
    check = _Check.of(function, module)
    for node in own_nodes(function.body):
        if isinstance(node, ast.Call) and (name := check.coroutine(node)) and check.is_lost(node):
            message = f"{name}() in {function.name!r} makes a coroutine that is never awaited, so it does nothing"
            yield sighting("NF109", node, message)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Check:
    """One function: the meanings of its names, and the parent of each of its nodes."""

    function: FunctionNode
    module: SourceModule
    values: ValueKinds
    parents: Mapping[ast.AST, ast.AST]
    bound: Mapping[str, int]
    nested: Mapping[str, FunctionNode]

    @classmethod
    def of(cls, function: FunctionNode, module: SourceModule) -> _Check:
        """Read a function."""
        parents: dict[ast.AST, ast.AST] = {}
        bound = {each.arg: 1 for each in parameters_of(function)}
        nested: dict[str, FunctionNode] = {}
        for node in own_nodes(function.body):
            if isinstance(node, FunctionNode):
                bound[node.name] = bound.get(node.name, 0) + 1
                nested[node.name] = node
                continue
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                bound[node.id] = bound.get(node.id, 0) + 1
            parents.update(dict.fromkeys(ast.iter_child_nodes(node), node))
        values = ValueKinds.of(function, module.imports)
        return cls(function=function, module=module, values=values, parents=parents, bound=bound, nested=nested)

    def coroutine(self, call: ast.Call) -> str:
        """Return the name of the called coroutine function; empty if it is not known to be one."""
        match call.func:
            case ast.Name(id=name):
                return name if self._is_coroutine_function(name) or self._of_asyncio(call.func) else ""
            case ast.Attribute(attr=method, value=owner):
                kind = self._connector(owner)
                return method if method in _METHODS.get(kind, ()) else self._of_asyncio(call.func)
        return ""

    def is_lost(self, call: ast.Call) -> bool:
        """Return True if nothing can await the result of a call."""
        match self.parents.get(call):
            case ast.Expr() | ast.Subscript() | ast.BinOp() | ast.Compare() | ast.UnaryOp() | ast.FormattedValue():
                return True
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                return self._is_never_read(name)
            case ast.Attribute(attr=attribute):
                return attribute not in _OF_COROUTINES and not attribute.startswith(("_", "cr_"))
            case ast.For(iter=held) | ast.comprehension(iter=held) | ast.If(test=held) | ast.While(test=held):
                return held is call
            case ast.Call(func=ast.Name(id=name)):
                return name in _READERS and name not in self.bound and name not in self.module.bindings
            case ast.Dict() as table:
                return isinstance(self.parents.get(table), ast.Return)
        return False

    def _is_coroutine_function(self, name: str) -> bool:
        found = self.nested.get(name)
        if found is None or self.bound[name] > 1:
            found = None if name in self.bound or name in self.module.imports else self.module.bindings.get(name)  # type: ignore[assignment]  # any statement
        if not isinstance(found, ast.AsyncFunctionDef) or found.decorator_list:
            return False
        return not any(isinstance(node, ast.Yield | ast.YieldFrom) for node in own_nodes(found.body))

    def _of_asyncio(self, function: ast.expr) -> str:
        name = dotted(function, self.module.imports)
        return name if name in _ASYNCIO else ""

    def _connector(self, node: ast.expr) -> str:
        """Return ``sql`` or ``api`` for ``connectors.sql(…)``, ``connectors.api(…)`` and names bound to one."""
        match self.values.resolved(node):
            case ast.Call(func=ast.Attribute(attr="sql" | "api" as kind, value=ast.Name(id="connectors"))):
                mine = self.bound.get("connectors", 0)
                is_parameter = any(each.arg == "connectors" for each in parameters_of(self.function))
                known = {**self.module.bindings, **self.module.imports}
                return kind if mine == int(is_parameter) and (is_parameter or "connectors" not in known) else ""
        return ""

    def _is_never_read(self, name: str) -> bool:
        for node in ast.walk(self.function):
            if isinstance(node, ast.Global | ast.Nonlocal) and name in node.names:
                return False
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
                return False
        return True
