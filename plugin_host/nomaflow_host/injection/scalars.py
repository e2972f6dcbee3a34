"""Coercions for parameters annotated int, float, bool or str.

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
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from nomaflow_api.v1.values import MAX_INT_DIGITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SCALARS", "Misfit"]

_INTEGER = re.compile(r"[+-]?[0-9]+(_[0-9]+)*", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+(_[0-9]+)*\.?|[0-9]*\.[0-9]+|[0-9]+\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_BOOLEANS: Mapping[str, bool] = {
    **dict.fromkeys(("yes", "on", "t", "true", "1"), True),
    **dict.fromkeys(("no", "off", "f", "false", "0"), False),
}


class Misfit(ValueError):
    """Raised when a value does not fit; its text states the expected form."""


def _to_int(value: Any) -> int:
    if type(value) is int:
        return value
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
    if len(text) > MAX_INT_DIGITS + 1:
        raise Misfit(f"expected int, of at most {MAX_INT_DIGITS} digits")
    if _INTEGER.fullmatch(text):
        return int(text)
    if not _NUMBER.fullmatch(text):
        raise Misfit("expected int")
    number = Decimal(text)
    if number and number.adjusted() >= MAX_INT_DIGITS:
        raise Misfit(f"expected int, of at most {MAX_INT_DIGITS} digits")
    if number.adjusted() < 0 < abs(number) or number != number.to_integral_value():
        raise Misfit("expected int, got a fraction")
    return int(number)


def _to_float(value: Any) -> float:
    if type(value) is float:
        return value
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


SCALARS: Mapping[Any, Callable[[Any], Any]] = {int: _to_int, float: _to_float, bool: _to_bool, str: _to_str}
"""What makes a value fit each scalar type, or raises `Misfit`."""
