"""Finds the function that a reference, ``package.module:attribute``, names, without an import."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace

from nomaflow_cli.lint.module_source import SourceModule, Sources
from nomaflow_cli.lint.scopes import FunctionNode, Scope, dotted

_MAX_HOPS = 8


def locate(reference: str, sources: Sources) -> Scope | None:
    """Return the callable, or None if it is not in these sources or only running code could tell."""
    module_name, _, attribute = reference.partition(":")
    module = sources.module(module_name)
    if module is None or not attribute:
        return None
    return _follow(module, attribute.split("."), sources, _MAX_HOPS)


def _follow(module: SourceModule, parts: Sequence[str], sources: Sources, hops: int) -> Scope | None:
    statement = module.bindings.get(parts[0])
    rest = parts[1:]
    if hops == 0:
        return None
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return None if rest else Scope(module=module, function=statement, is_callable=True)
        case ast.ClassDef():
            return _member(module, statement, rest)
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            return _value(module, value, rest, sources, hops)
        case ast.Import() | ast.ImportFrom():
            return _absolute(module.imports[parts[0]].split(".") + list(rest), sources, hops)
    return None


def _value(module: SourceModule, value: ast.expr, rest: Sequence[str], sources: Sources, hops: int) -> Scope | None:
    """Follow ``name = value``: another name, a partial, or a callable instance."""
    if not isinstance(value, ast.Call):
        name = _names(value)
        return _follow(module, [*name, *rest], sources, hops - 1) if name else None
    if dotted(value.func, module.imports) == "functools.partial":
        name = _names(value.args[0]) if value.args else []
        found = _follow(module, name, sources, hops - 1) if name else None
        return replace(found, signature_known=False) if found else None
    made = module.bindings.get(value.func.id) if isinstance(value.func, ast.Name) else None
    return _member(module, made, [*rest, "__call__"]) if isinstance(made, ast.ClassDef) and not rest else None


def _member(module: SourceModule, owner: ast.ClassDef, parts: Sequence[str]) -> Scope | None:
    for statement in owner.body:
        if not parts or getattr(statement, "name", None) != parts[0]:
            continue
        if isinstance(statement, ast.ClassDef):
            return _member(module, statement, parts[1:])
        if isinstance(statement, FunctionNode) and len(parts) == 1:
            static = any(dotted(each, module.imports) == "staticmethod" for each in statement.decorator_list)
            return Scope(module=module, function=statement, is_callable=True, bound_first=not static)
    return None


def _absolute(path: Sequence[str], sources: Sources, hops: int) -> Scope | None:
    """Follow an imported name: its longest prefix that is a module, then the name that this module binds."""
    for size in range(len(path) - 1, 0, -1):
        module = sources.module(".".join(path[:size]))
        if module is not None:
            return _follow(module, path[size:], sources, hops - 1)
    return None


def _names(node: ast.expr) -> list[str]:
    match node:
        case ast.Name(id=name):
            return [name]
        case ast.Attribute(value=owner, attr=name) if names := _names(owner):
            return [*names, name]
    return []


def reached_functions(scope: Scope) -> list[FunctionNode]:
    """Return the functions of the module that the callable names, and those that these name in turn."""
    reached: dict[str, FunctionNode] = {}
    waiting: list[FunctionNode] = [scope.function]
    while waiting:
        for node in ast.walk(waiting.pop()):
            name = node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else ""
            found = scope.module.bindings.get(name)
            if isinstance(found, FunctionNode) and found is not scope.function and name not in reached:
                reached[name] = found
                waiting.append(found)
    return list(reached.values())
