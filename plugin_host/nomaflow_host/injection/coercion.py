"""Chooses the coercion for a parameter's annotation.

| annotated | is |
|---|---|
| int, float, bool, str | read by the rules below |
| a union of these and others | left alone if it fits a member, else read as a scalar, else as one of the others |
| a model, a dataclass, a TypedDict, ``Annotated``, and a union with one of them | validated by pydantic |
| any other annotation that pydantic knows | validated by pydantic, in lax mode |
| no annotation, or an unknown one | passed as it is |

| annotated | takes | refuses |
|---|---|---|
| int | int; a float without a fraction; text of such a number, stripped | bool, a fraction |
| float | float; an int that a float holds exactly; text of a finite number, stripped | bool, nan, inf |
| bool | bool; 1 and 0; yes/no, on/off, t/f, true/false, 1/0 as text, stripped, in any case | any other |
| str | text as it is; numbers as text | bool, None, dates, lists, tables |
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from nomaflow_api.v1.lossless_json import MAX_INT_DIGITS
from nomaflow_host.injection.callables import UNKNOWN, unwrapped
from nomaflow_host.injection.errors import Misfit
from nomaflow_host.injection.validation import Validator, mentions_validated, validator_for, validator_of_asked

Coercion = Callable[[Any], Any]
"""Returns the value that fits, or raises `Misfit`."""

_NONE = type(None)
_NUMBERS = (int, float)
_NAMES = (int, float, bool, str)
_INTEGER = re.compile(r"[+-]?[0-9]+(_[0-9]+)*", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+(_[0-9]+)*\.?|[0-9]*\.[0-9]+|[0-9]+\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_BOOLEANS: Mapping[str, bool] = {
    **dict.fromkeys(("yes", "on", "t", "true", "1"), True),
    **dict.fromkeys(("no", "off", "f", "false", "0"), False),
}


def coercion_for(annotation: Any) -> Coercion | None:
    """Return the coercion of an evaluated annotation, or None if values pass unchanged."""
    annotation = unwrapped(annotation)
    if annotation is UNKNOWN or annotation is Any:
        return None
    if _is_scalar(annotation):
        return _SCALARS[annotation]
    if mentions_validated(annotation):
        return validator_of_asked(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [unwrapped(member) for member in typing.get_args(annotation)]
        if any(_is_scalar(member) for member in members):
            return _union_coercion(members)
    return validator_for(annotation)


def _is_scalar(member: Any) -> bool:
    return isinstance(member, type) and member in _NAMES


def _union_coercion(members: list[Any]) -> Coercion:
    """Return the coercion of a union with scalars: its members are tried in order, numbers first for a number."""
    scalars = [member for member in members if _is_scalar(member)]
    others = [member for member in members if not _is_scalar(member) and member is not _NONE]
    validate = validator_for(typing.Union[tuple(others)]) if others else None  # noqa: UP007 - members known at run time
    expected = "expected " + " or ".join(_name(member) for member in members)
    numbers_first = sorted(scalars, key=lambda member: member not in _NUMBERS)

    def fit(value: Any) -> Any:
        if (value is None and _NONE in members) or type(value) in scalars or _fits(value, others, validate):
            return value
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
        for member in numbers_first if numeric else scalars:
            try:
                return _SCALARS[member](value)
            except Misfit:
                continue
        if validate is not None:
            try:
                return validate(value)
            except Misfit as misfit:
                raise Misfit(f"{expected} ({misfit})") from None
        if others:
            return value
        raise Misfit(expected)

    return fit


def _fits(value: Any, others: list[Any], validate: Validator | None) -> bool:
    """Return True if a value already fits a member that is not a scalar."""
    if validate is not None:
        return validate.accepts_unchanged(value)
    return bool(others) and (value is None or any(_is_instance(value, other) for other in others))


def _is_instance(value: Any, member: Any) -> bool:
    kind = typing.get_origin(member) or member
    try:
        return isinstance(kind, type) and isinstance(value, kind)
    except TypeError:  # a protocol, or another class that does not support isinstance()
        return False


def _name(member: Any) -> str:
    if member is _NONE:
        return "None"
    return member.__name__ if isinstance(member, type) else str(member)


def _to_int(value: Any) -> int:
    if isinstance(value, bool):
        raise Misfit("expected int, got a bool")
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not value.is_integer():
            raise Misfit("expected int, got a fraction")
        return int(value)
    if isinstance(value, str):
        return _int_of_text(value.strip())
    raise Misfit("expected int")


def _int_of_text(text: str) -> int:
    if len(text.lstrip("+-")) > MAX_INT_DIGITS:
        raise Misfit(f"expected int, of at most {MAX_INT_DIGITS} digits")
    if _INTEGER.fullmatch(text):
        return int(text)
    if not _NUMBER.fullmatch(text):
        raise Misfit("expected int")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise Misfit("expected int, got a number out of its range") from None
    if number and number.adjusted() >= MAX_INT_DIGITS:
        raise Misfit(f"expected int, of at most {MAX_INT_DIGITS} digits")
    if number != number.to_integral_value():
        raise Misfit("expected int, got a fraction")
    return int(number)


def _to_float(value: Any) -> float:
    if isinstance(value, bool):
        raise Misfit("expected float, got a bool")
    if isinstance(value, float):
        return value
    if isinstance(value, int):
        return _float_of_int(value)
    if isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text):
            number = float(text)
            if math.isfinite(number):
                return number
            raise Misfit("expected float, got a number out of its range")
    raise Misfit("expected float")


def _float_of_int(value: int) -> float:
    try:
        number = float(value)
    except OverflowError:
        raise Misfit("expected float, got an int out of its range") from None
    if number != value:
        raise Misfit("expected float, got an int that a float cannot hold exactly")
    return number


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        known = _BOOLEANS.get(value.strip().lower())
        if known is not None:
            return known
    raise Misfit("expected bool (yes/no, on/off, true/false, t/f, 1/0)")


def _to_str(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        raise Misfit('expected str, got a bool (write it as text, such as "true")')
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    raise Misfit("expected str (write it as text, in quotes)")


_SCALARS: Mapping[Any, Coercion] = {int: _to_int, float: _to_float, bool: _to_bool, str: _to_str}
