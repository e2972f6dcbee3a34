"""The one encoding of values on the wire: JSON text without loss.

Params and op_kwargs come from TOML, which has dates and times; JSON has none. They travel as one-key objects::

    {"$date": "2026-01-31"}    {"$time": "07:30:00"}    {"$datetime": "2026-01-31T07:30:00+00:00"}

An object that really has a single key beginning with ``$`` is wrapped once more: ``{"$literal": {...}}``.
Results (extras) never carry tags: `plain_tree`, `dumps_plain` and `loads_plain` are their half of this
module.

Bounds: 64 levels of nesting in the encoded text, integers of 4,300 digits, no NaN, no Infinity, no duplicate
keys. Only the standard library is used.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from typing import Any

MAX_DEPTH = 64
"""The maximum depth of an encoded text; a tag counts as a level."""
MAX_INT_DIGITS = 4300
"""The maximum number of decimal digits of an integer."""

_INT_BITS = 14285  # the first integer of 4,301 digits has this many bits, as have the longest of 4,300
_TAGS = ("$date", "$time", "$datetime", "$literal")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
# Possessive, so that an unterminated string costs linear time.
_STRUCTURE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)
_ADVICE = {
    "datetime": "give ISO text, such as value.isoformat()",
    "date": "give ISO text, such as value.isoformat()",
    "time": "give ISO text, such as value.isoformat()",
    "set": "give a list, such as sorted(value)",
    "frozenset": "give a list, such as sorted(value)",
    "bytes": "give text, such as value.decode() or value.hex()",
    "Decimal": "give int(value), float(value) or str(value)",
    "UUID": "give str(value)",
    "PosixPath": "give str(value)",
    "timedelta": "give value.total_seconds()",
    "coroutine": "an await is missing",
    "Task": "an await is missing",
    "Future": "an await is missing",
}


class ValueCodecError(ValueError):
    """Raised when a value cannot be encoded or a text cannot be decoded without loss.

    :ivar path: place in the value, such as ``extras.rows[3].when``; empty for the value as a whole
    :ivar problem: the problem, without the path
    """

    def __init__(self, problem: str, *, path: str = "") -> None:
        """Name the place and the problem."""
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


class _Refused:
    """Placeholder in a freshly parsed tree for JSON that we do not allow, until its path is known."""

    __slots__ = ("problem",)

    def __init__(self, problem: str) -> None:
        self.problem = problem


def loads(text: str, *, path: str = "") -> Any:
    """Return the value of tagged JSON *text*, dates and times included.

    :raises ValueCodecError: if the text is not JSON, breaks a bound or has a malformed tag
    """
    tree, tagged = _parse(text, path)
    return _decode(tree, path) if tagged else tree


def dumps_plain(value: Any, *, path: str = "") -> str:
    """Return *value* as JSON text without tags: dates are refused, as in results.

    :raises ValueCodecError: if it cannot be kept exactly
    """
    tree = plain_tree(value, path=path)
    return json.dumps(tree, allow_nan=False, check_circular=False, separators=(",", ":"))


def loads_plain(text: str, *, path: str = "", around: int = 0) -> Any:
    """Return the value of JSON *text*, taking keys that begin with ``$`` as they are.

    :param around: the levels in which the text wraps a value of `MAX_DEPTH`
    :raises ValueCodecError: if the text is not JSON or breaks a bound
    """
    return _parse(text, path, MAX_DEPTH + around)[0]


def encode_tree(value: Any, *, path: str = "") -> Any:
    """Return *value* with dates and times tagged: a tree of plain dict, list, str, int, float, bool and None.

    Tuples become lists; subclasses of str, int, float and dict count by value.

    :raises ValueCodecError: if it cannot be kept exactly
    """
    return _encode(value, path, 1, tags=True)


def plain_tree(value: Any, *, path: str = "") -> Any:
    """Return *value* as a tree of plain dict, list, str, int, float, bool and None; dates are refused.

    :raises ValueCodecError: if it cannot be kept exactly
    """
    return _encode(value, path, 1, tags=False)


def decode_tree(tree: Any, *, path: str = "") -> Any:
    """Return the value that `encode_tree` encoded as *tree*.

    :raises ValueCodecError: if a tag is malformed or the tree is nested too deeply
    """
    return _decode(tree, path)


def child_path(path: str, key: object) -> str:
    """Return the path of an item, such as ``extras.rows`` or ``rows[3]``."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if isinstance(key, str) and _NAME.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{_shown(key)}]"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a hostile __repr__ must not hide its path
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."


def _encode(value: Any, path: str, depth: int, *, tags: bool) -> Any:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is dict:
        return _encode_dict(value, path, depth, tags=tags)
    if kind is list or kind is tuple:
        _check_depth(depth, path)
        return [_encode(item, f"{path}[{index}]", depth + 1, tags=tags) for index, item in enumerate(value)]
    return _encode_other(value, path, depth, tags=tags)


def _encode_dict(value: dict[Any, Any], path: str, depth: int, *, tags: bool) -> Any:
    keys = list(dict.keys(value))
    wrap = tags and len(keys) == 1 and isinstance(keys[0], str) and keys[0][:1] == "$"
    inner = depth + 1 if wrap else depth
    _check_depth(inner, path)
    plain: dict[str, Any] = {}
    for key, item in dict.items(value):
        if not isinstance(key, str):
            problem = f"the key {_shown(key)} is {type(key).__name__}, expected str (give str(key))"
            raise ValueCodecError(problem, path=path)
        name = key if type(key) is str else str.__str__(key)
        if name in plain:
            raise ValueCodecError(f"the key {name!r} occurs twice", path=path)
        plain[name] = _encode(item, child_path(path, name), inner + 1, tags=tags)
    return {"$literal": plain} if wrap else plain


def _encode_other(value: Any, path: str, depth: int, *, tags: bool) -> Any:
    kind = type(value)  # not `isinstance`: a proxy's __class__ is that of another object
    if issubclass(kind, int):
        return _plain_int(value, path)
    if issubclass(kind, float):
        number = float.__float__(value)
        if not math.isfinite(number):
            raise ValueCodecError(f"{number!r} has no JSON form (give a finite number, or text)", path=path)
        return number
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, dict):
        return _encode_dict(value, path, depth, tags=tags)
    if issubclass(kind, (list, tuple)):
        return _encode(list(value), path, depth, tags=tags)
    if tags and isinstance(value, (dt.date, dt.time)):
        _check_depth(depth, path)
        return _tag_of(value)
    raise _type_error(value, path)


def _plain_int(value: int, path: str) -> int:
    plain = int.__index__(value)
    bits = plain.bit_length()
    if bits > _INT_BITS or (bits == _INT_BITS and abs(plain) >= 10**MAX_INT_DIGITS):
        problem = f"the integer has more than {MAX_INT_DIGITS} digits (give text)"
        raise ValueCodecError(problem, path=path)
    return plain


def _tag_of(value: dt.date | dt.time) -> dict[str, str]:
    if isinstance(value, dt.datetime):
        return {"$datetime": value.isoformat()}
    return {"$date" if isinstance(value, dt.date) else "$time": value.isoformat()}


def _type_error(value: object, path: str) -> ValueCodecError:
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    advice = _ADVICE.get(kind.__name__, "give text, numbers, lists or dicts")
    return ValueCodecError(f"a value of type {name} has no JSON form ({advice})", path=path)


def _check_depth(depth: int, path: str, most: int = MAX_DEPTH) -> None:
    if depth > most:
        where = path if len(path) <= 120 else path[:117] + "..."
        problem = f"nested more than {most} levels deep, or containing itself"
        raise ValueCodecError(problem, path=where)


def _check_text_depth(text: str, path: str, most: int) -> None:
    """Refuse text nested too deeply before the parser, which recurses, sees it."""
    if text.count("[") + text.count("{") <= most:
        return
    depth = 0
    for match in _STRUCTURE.finditer(text):
        mark = match.group()
        if mark in ("[", "{"):
            depth += 1
            _check_depth(depth, path, most)
        elif mark in ("]", "}"):
            depth -= 1


def _parse(text: str, path: str, most: int = MAX_DEPTH) -> tuple[Any, bool]:
    """Return the parsed tree and whether it may hold tags."""
    if not isinstance(text, str):
        raise ValueCodecError(f"expected JSON text, got {type(text).__name__}", path=path)
    _check_text_depth(text, path, most)
    marks = {"refused": False, "tagged": False}

    def refuse(problem: str) -> _Refused:
        marks["refused"] = True
        return _Refused(problem)

    def pairs(items: list[tuple[str, Any]]) -> Any:
        plain = dict(items)
        if len(plain) != len(items):
            return refuse(f"the key {_shown(_first_repeated(items))} occurs twice")
        if len(items) == 1 and items[0][0][:1] == "$":
            marks["tagged"] = True
        return plain

    def number(digits: str) -> Any:
        return (
            int(digits)
            if len(digits.lstrip("-")) <= MAX_INT_DIGITS
            else refuse(f"an integer of {len(digits)} digits, expected at most {MAX_INT_DIGITS}")
        )

    def fraction(digits: str) -> Any:
        parsed = float(digits)
        return parsed if math.isfinite(parsed) else refuse(f"the number {_shown(digits)} is out of range")

    try:
        tree = json.loads(
            text,
            object_pairs_hook=pairs,
            parse_int=number,
            parse_float=fraction,
            parse_constant=lambda name: refuse(f"{name} is not allowed"),
        )
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg.removesuffix(' at')} at line {error.lineno}, column {error.colno}"
        raise ValueCodecError(problem, path=path) from None
    if marks["refused"]:
        _raise_refused(tree, path)
    return tree, marks["tagged"]


def _first_repeated(items: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for name, _ in items:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("called for keys that are all different")


def _raise_refused(tree: Any, path: str) -> None:
    if isinstance(tree, _Refused):
        raise ValueCodecError(tree.problem, path=path)
    if isinstance(tree, dict):
        for key, item in tree.items():
            _raise_refused(item, child_path(path, key))
    elif isinstance(tree, list):
        for index, item in enumerate(tree):
            _raise_refused(item, child_path(path, index))


def _decode(tree: Any, path: str, depth: int = 1) -> Any:
    if isinstance(tree, dict):
        _check_depth(depth, path)
        if len(tree) == 1:
            ((key, item),) = tree.items()
            if isinstance(key, str) and key[:1] == "$":
                return _decode_tag(key, item, path, depth)
        return {key: _decode(item, child_path(path, key), depth + 1) for key, item in tree.items()}
    if isinstance(tree, list):
        _check_depth(depth, path)
        return [_decode(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(tree)]
    return tree


def _decode_tag(tag: str, item: Any, path: str, depth: int) -> Any:
    if tag == "$literal":
        if not isinstance(item, dict):
            raise ValueCodecError(f"$literal holds {type(item).__name__}, expected an object", path=path)
        _check_depth(depth + 1, path)
        return {key: _decode(value, child_path(path, key), depth + 2) for key, value in item.items()}
    if tag not in _TAGS:
        raise ValueCodecError(f"unknown tag {tag!r}, expected one of {', '.join(_TAGS)}", path=path)
    if not isinstance(item, str):
        raise ValueCodecError(f"{tag} holds {type(item).__name__}, expected ISO text", path=path)
    try:
        if tag == "$date":
            return dt.date.fromisoformat(item)
        if tag == "$time":
            return dt.time.fromisoformat(item)
        return dt.datetime.fromisoformat(item)
    except ValueError:
        raise ValueCodecError(f"{tag} holds {_shown(item)}, expected ISO text", path=path) from None
