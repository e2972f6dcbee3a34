"""Classifies expressions without running them: a date, a set, the rows of a query."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from nomaflow_cli.lint.scopes import FunctionNode, dotted, own_nodes, parameters_of
from nomaflow_cli.lint.signatures import INJECTIONS

__all__ = ["ValueKinds"]

_MAX_DEPTH = 12
_LONG_LIST = 1000
_DATETIME, _DATE, _TIME, _DELTA = "a datetime", "a date", "a time", "a timedelta"
_DATES = frozenset({_DATETIME, _DATE, _TIME})
_CONSTRUCTORS: Mapping[str, str] = {
    "datetime.datetime": _DATETIME,
    **{f"datetime.datetime.{name}": _DATETIME for name in ("now", "utcnow", "today", "fromisoformat", "strptime")},
    **{f"datetime.datetime.{name}": _DATETIME for name in ("fromtimestamp", "utcfromtimestamp", "combine")},
    "datetime.date": _DATE,
    **{f"datetime.date.{name}": _DATE for name in ("today", "fromisoformat", "fromtimestamp", "fromordinal")},
    "datetime.time": _TIME,
    "datetime.timedelta": _DELTA,
    "decimal.Decimal": "a Decimal",
    "fractions.Fraction": "a Fraction",
    **{f"uuid.{name}": "a UUID" for name in ("UUID", "uuid1", "uuid3", "uuid4", "uuid5")},
    **{f"pathlib.{name}": "a Path" for name in ("Path", "PurePath", "Path.cwd", "Path.home")},
    "set": "a set",
    "frozenset": "a set",
    "bytes": "bytes",
    "bytearray": "bytes",
    "complex": "a complex number",
    "object": "an object",
    **dict.fromkeys(("map", "filter", "zip", "iter", "reversed", "enumerate", "range"), "an iterator"),
}
_LITERALS: Mapping[type[ast.AST], str] = {
    ast.Set: "a set",
    ast.SetComp: "a set",
    ast.GeneratorExp: "a generator",
    ast.Lambda: "a function",
}
_CONSTANTS: Mapping[type, str] = {bytes: "bytes", complex: "a complex number", type(...): "an Ellipsis"}
_NUMBERS_BEYOND = frozenset({"math.nan", "math.inf"})
_FETCHES = frozenset({"fetchall", "fetch_all", "fetchmany"})
_RESULTS = frozenset({"execute", "scalars", "mappings", "exec_driver_sql"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueKinds:
    """The obvious kinds of the expressions in one function.

    :param local_values: name to its assigned expression, for names that are assigned once
    :param exceptions: the names of ``except … as name``
    :param annotated: parameter to its annotation
    """

    imports: Mapping[str, str]
    local_values: Mapping[str, ast.expr] = field(repr=False)
    exceptions: frozenset[str] = frozenset()
    annotated: Mapping[str, ast.expr] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, function: FunctionNode, imports: Mapping[str, str]) -> Self:
        """Read the assignments of a function."""
        counts = {each.arg: 1 for each in parameters_of(function)}
        values: dict[str, ast.expr] = {}
        exceptions: set[str] = set()
        for node in own_nodes(function.body):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                counts[node.id] = counts.get(node.id, 0) + 1
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and len(node.targets) == 1:
                values[node.targets[0].id] = node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                values[node.target.id] = node.value
            elif isinstance(node, ast.ExceptHandler) and node.name:
                exceptions.add(node.name)
        return cls(
            imports=imports,
            local_values={name: value for name, value in values.items() if counts[name] == 1},
            exceptions=frozenset(name for name in exceptions if name not in counts),
            annotated={
                each.arg: each.annotation
                for each in parameters_of(function)
                if each.annotation is not None and counts[each.arg] == 1
            },
        )

    def resolved(self, node: ast.expr) -> ast.expr:
        """Return the expression behind a local name, or the node itself for anything else."""
        for _ in range(_MAX_DEPTH):
            if not isinstance(node, ast.Name) or node.id not in self.local_values:
                break
            node = self.local_values[node.id]
        return node

    def not_json(self, node: ast.expr, depth: int = _MAX_DEPTH) -> str:
        """Return the kind of an expression that JSON cannot hold, empty if it can or the kind is unknown."""
        node = self.resolved(node)
        if depth == 0:
            return ""
        match node:
            case ast.Constant(value=value):
                return _CONSTANTS.get(type(value), "")
            case ast.Name(id=name):
                return self._name(name)
            case ast.Attribute():
                return "NaN or Infinity" if dotted(node, self.imports) in _NUMBERS_BEYOND else ""
            case ast.BinOp(left=left, op=op, right=right):
                return _combined(self.not_json(left, depth - 1), op, self.not_json(right, depth - 1))
            case ast.Call():
                return self._call(node, depth)
        return _LITERALS.get(type(node), "")

    def are_rows(self, node: ast.expr, depth: int = _MAX_DEPTH) -> bool:
        """Return True for the rows of a query, lists made from them, and lists of a thousand items or more."""
        node = self.resolved(node)
        if depth == 0:
            return False
        match node:
            case ast.Await(value=value):
                return self.are_rows(value, depth - 1)
            case ast.Call(func=ast.Attribute(attr=attribute, value=value)):
                return attribute in _FETCHES or (attribute == "all" and self._is_result(value))
            case ast.Call(func=ast.Name(id="list" | "tuple" | "sorted"), args=[first, *_]):
                return self.are_rows(first, depth - 1) or _is_long_range(first)
            case ast.ListComp(generators=[generator]) if not generator.ifs:
                return self.are_rows(generator.iter, depth - 1) or _is_long_range(generator.iter)
        return False

    def _is_result(self, node: ast.expr) -> bool:
        for _ in range(_MAX_DEPTH):
            node = self.resolved(node)
            if isinstance(node, ast.Await | ast.Attribute):
                node = node.value
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in _RESULTS:
                    return True
                node = node.func.value
            else:
                break
        return False

    def _name(self, name: str) -> str:
        if name in self.exceptions:
            return "an exception"
        if name in INJECTIONS:
            return f"the injection {name!r}"
        return _CONSTRUCTORS.get(dotted(self.annotated.get(name), self.imports), "")

    def _call(self, call: ast.Call, depth: int) -> str:
        name = dotted(call.func, self.imports)
        if name in _CONSTRUCTORS:
            return _CONSTRUCTORS[name]
        if name == "float" and len(call.args) == 1 and isinstance(call.args[0], ast.Constant):
            text = str(call.args[0].value).strip().lower().lstrip("+-")
            return "NaN or Infinity" if text in ("nan", "inf", "infinity") else ""
        if isinstance(call.func, ast.Attribute):
            receiver = self.not_json(call.func.value, depth - 1)
            if receiver in _DATES:
                same = {"replace": receiver, "astimezone": receiver, "date": _DATE, "time": _TIME}
                return same.get(call.func.attr, "")
        return ""


def _combined(left: str, op: ast.operator, right: str) -> str:
    if isinstance(op, ast.Sub) and left in _DATES and right in _DATES:
        return _DELTA
    for kind in (left, right):
        if kind in _DATES and isinstance(op, ast.Add | ast.Sub):
            return kind
    if isinstance(op, ast.Div):
        return "a Path" if left == "a Path" else ""
    return next((kind for kind in (left, right) if kind in (_DELTA, "a Decimal")), "")


def _is_long_range(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="range"), args=[*_, ast.Constant(value=int(stop))]):
            return stop >= _LONG_LIST
    return False
