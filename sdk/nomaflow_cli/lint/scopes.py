"""One function of a module: its nodes, and the meaning of its names."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from nomaflow_cli.lint.module_source import SourceModule

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_MAX_DEPTH = 12


def own_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield nodes and everything below in source order, without the bodies of nested functions and classes."""
    stack = list(nodes)[::-1]
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, _SCOPES):
            stack.extend(list(ast.iter_child_nodes(node))[::-1])


def nested_functions(function: FunctionNode) -> Iterator[FunctionNode]:
    """Yield the functions defined inside a function, at any depth."""
    for node in ast.walk(function):
        if isinstance(node, FunctionNode) and node is not function:
            yield node


def dotted(node: ast.AST | None, imports: Mapping[str, str]) -> str:
    """Return the full name behind a name, such as ``asyncio.CancelledError``; empty for anything but a name.

    A bare name that is not imported is its own full name; an attribute of one has none that is known.
    """
    if isinstance(node, ast.Name):
        return imports.get(node.id, node.id)
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in imports:
        return ".".join([imports[node.id], *reversed(parts)])
    return ""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """A function that a rule looks at.

    :param is_callable: True for the callable that a job names, False for a function that it uses
    :param bound_first: True if Python passes its first parameter, as in a class method
    :param signature_known: True if the source shows its parameters; False below a partial
    """

    module: SourceModule
    function: FunctionNode
    is_callable: bool = False
    bound_first: bool = False
    signature_known: bool = True

    @property
    def name(self) -> str:
        """The function's name, quoted for a message."""
        return repr(self.function.name)

    @property
    def is_coroutine(self) -> bool:
        """True for an ``async def``."""
        return isinstance(self.function, ast.AsyncFunctionDef)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """The nodes of its body in source order, without the bodies of nested functions and classes."""
        return list(own_nodes(self.function.body))

    @cached_property
    def parents(self) -> Mapping[ast.AST, ast.AST]:
        """The parent of each node of its body."""
        return {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}

    @cached_property
    def parameters(self) -> list[str]:
        """The names of the parameters that can be given by name, in order."""
        arguments = self.function.args
        return [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]

    @cached_property
    def bound(self) -> Counter[str]:
        """The number of times that the function binds each name, parameters included."""
        assigned = [node.id for node in self.nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)]
        return Counter([*self.parameters, *assigned, *(node.name for node in self._functions)])

    @property
    def _functions(self) -> list[FunctionNode]:
        return [node for node in self.nodes if isinstance(node, FunctionNode)]

    @cached_property
    def _values(self) -> Mapping[str, ast.expr]:
        """The expression of each name that is assigned once."""
        found: dict[str, ast.expr] = {}
        for node in self.nodes:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    found[name] = value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    found[name] = value
        return {name: value for name, value in found.items() if self.bound[name] == 1}

    def dotted(self, node: ast.AST | None) -> str:
        """Return the full name behind a name, see `dotted`."""
        return dotted(node, self.module.imports)

    def resolved(self, node: ast.expr) -> ast.expr:
        """Return the expression behind a local name, or the node itself for anything else."""
        for _ in range(_MAX_DEPTH):
            if not isinstance(node, ast.Name) or node.id not in self._values:
                break
            node = self._values[node.id]
        return node

    def defined(self, name: str) -> ast.stmt | None:
        """Return the statement that defines a function or another name of the module; None if it is not clear."""
        nested = {node.name: node for node in self._functions}
        if name in nested and self.bound[name] == 1:
            return nested[name]
        return None if name in self.bound or name in self.module.imports else self.module.bindings.get(name)
