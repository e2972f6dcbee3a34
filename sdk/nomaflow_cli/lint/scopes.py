"""Walks the source of one function."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

__all__ = ["FunctionNode", "dotted", "nested_functions", "own_nodes", "parameters_of"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


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


def parameters_of(function: FunctionNode) -> list[ast.arg]:
    """Return the parameters that can be given by name, in order."""
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


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
