"""NF106 and NF107: returned values that the run's record cannot, or should not, keep."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nomaflow_cli.lint.findings import Sighting, sighting
from nomaflow_cli.lint.scopes import FunctionNode, dotted, own_nodes
from nomaflow_cli.lint.value_kinds import ValueKinds

__all__ = ["check_returns"]

_MAX_DEPTH = 12
_REFUSED: Mapping[type[ast.AST], str] = {
    ast.List: "a list",
    ast.ListComp: "a list",
    ast.Tuple: "a tuple",
    ast.JoinedStr: "text",
    ast.Compare: "a bool",
}
_REFUSED_CONSTANTS: Mapping[type, str] = {str: "text", bool: "a bool", float: "a float"}


def check_returns(function: FunctionNode, imports: Mapping[str, str]) -> Iterator[Sighting]:
    """Yield the returned values of a callable that are obviously refused, or obviously large."""
    check = _Check(function=function, imports=imports, kinds=ValueKinds.of(function, imports))
    returned: set[str] = set()
    for node in own_nodes(function.body):
        if isinstance(node, ast.Return) and node.value is not None:
            yield from check.returned(node.value)
            if isinstance(node.value, ast.Name):
                returned.add(node.value.id)
    for node in own_nodes(function.body):
        match node:
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=name), slice=key)]) if name in returned:
                if isinstance(check.kinds.resolved(ast.Name(id=name, ctx=ast.Load())), ast.Dict):
                    yield from check.entry(key, node.value, _MAX_DEPTH)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Check:
    function: FunctionNode
    imports: Mapping[str, str]
    kinds: ValueKinds

    def returned(self, node: ast.expr, depth: int = _MAX_DEPTH) -> Iterator[Sighting]:
        """Yield the mistakes in a returned value itself."""
        if depth == 0:
            return
        if isinstance(node, ast.IfExp | ast.BoolOp):
            for each in [node.body, node.orelse] if isinstance(node, ast.IfExp) else node.values:
                yield from self.returned(each, depth - 1)
            return
        value = self.kinds.resolved(node)
        if isinstance(value, ast.Dict):
            yield from self._dict(value, depth)
        elif isinstance(value, ast.Call) and self._is_step_result(value):
            yield from self._step_result(value, depth)
        elif isinstance(value, ast.Call) and dotted(value.func, self.imports) == "dict" and not value.args:
            for keyword in value.keywords:
                yield from self.entry(ast.Constant(keyword.arg or ""), keyword.value, depth)
        elif self.kinds.are_rows(value):
            yield sighting("NF106", node, f"{self.function.name!r} returns rows")
        else:
            what = self.kinds.not_json(value) or self._refused(value)
            if what:
                message = f"{self.function.name!r} returns {what}, expected None, int, dict or StepResult"
                yield sighting("NF107", node, message)

    def entry(self, key: ast.expr, value: ast.expr, depth: int) -> Iterator[Sighting]:
        """Yield the mistakes in one key of a returned dict."""
        if isinstance(key, ast.Constant) and not isinstance(key.value, str):
            message = f"{self.function.name!r} returns a dict with the key {key.value!r}, expected text"
            yield sighting("NF107", key, message)
        name = f" under {key.value!r}" if isinstance(key, ast.Constant) and key.value != "" else ""
        if isinstance(key, ast.Constant) and key.value == "rows_affected":
            what = self._refused(self.kinds.resolved(value))
            if what:
                message = f"{self.function.name!r} returns {what} as rows_affected, expected an int or None"
                yield sighting("NF107", value, message)
                return
        yield from self._value(value, name, depth - 1)

    def _value(self, node: ast.expr, name: str, depth: int) -> Iterator[Sighting]:
        if depth <= 0:
            return
        value = self.kinds.resolved(node)
        if isinstance(value, ast.Dict):
            yield from self._dict(value, depth)
        elif isinstance(value, ast.List | ast.Tuple):
            for each in value.elts:
                yield from self._value(each, name, depth - 1)
        elif isinstance(value, ast.IfExp):
            yield from self._value(value.body, name, depth - 1)
            yield from self._value(value.orelse, name, depth - 1)
        elif self.kinds.are_rows(value):
            yield sighting("NF106", node, f"{self.function.name!r} returns rows{name}")
        elif what := self.kinds.not_json(value):
            yield sighting("NF107", node, f"{self.function.name!r} returns {what}{name}, which JSON cannot hold")

    def _dict(self, node: ast.Dict, depth: int) -> Iterator[Sighting]:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None:
                yield from self.entry(key, value, depth)

    def _is_step_result(self, call: ast.Call) -> bool:
        return dotted(call.func, self.imports).rpartition(".")[2] == "StepResult"

    def _step_result(self, call: ast.Call, depth: int) -> Iterator[Sighting]:
        given = dict(zip(("rows_affected", "extras"), call.args, strict=False))
        given |= {each.arg: each.value for each in call.keywords if each.arg}
        if "rows_affected" in given:
            yield from self.entry(ast.Constant("rows_affected"), given["rows_affected"], depth)
        if "extras" in given:
            yield from self._value(given["extras"], " in extras", depth)

    def _refused(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return _REFUSED_CONSTANTS.get(type(node.value), "")
        return _REFUSED.get(type(node), "")
