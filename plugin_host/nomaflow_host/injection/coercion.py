"""From a parameter's annotation to what makes a value fit it."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

from nomaflow_host.injection.annotations import UNKNOWN, unwrapped
from nomaflow_host.injection.scalars import SCALARS, Misfit
from nomaflow_host.injection.validation import mentions_validated, validator_for

__all__ = ["Coercion", "coercion_for"]

Coercion = Callable[[Any], Any]
"""Returns the value that fits, or raises `Misfit`."""

_NONE = type(None)
_NUMBERS = (int, float)
_NAMES = (int, float, bool, str)


def coercion_for(annotation: Any) -> Coercion | None:
    """Return the coercion of an evaluated annotation, None where values pass as they are."""
    annotation = unwrapped(annotation)
    if annotation is UNKNOWN or annotation is Any:
        return None
    if isinstance(annotation, type) and annotation in _NAMES:
        return SCALARS[annotation]
    if mentions_validated(annotation):
        return validator_for(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return _union_coercion([unwrapped(member) for member in typing.get_args(annotation)])
    return None


def _union_coercion(members: list[Any]) -> Coercion | None:
    """Return the coercion of a union: what fits a member stays, else the scalars are tried in order."""
    scalars = [member for member in members if isinstance(member, type) and member in _NAMES]
    others = [member for member in members if member not in scalars and member is not _NONE]
    if not scalars:
        return None
    expected = "expected " + " or ".join(_name(member) for member in members)
    numbers_first = sorted(scalars, key=lambda member: member not in _NUMBERS)

    def fit(value: Any) -> Any:
        if value is None:
            if _NONE in members or others:
                return None
            raise Misfit(expected)
        if type(value) in scalars or any(_is_instance(value, other) for other in others):
            return value
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
        for member in numbers_first if numeric else scalars:
            try:
                return SCALARS[member](value)
            except Misfit:
                continue
        if others:
            return value
        raise Misfit(expected)

    return fit


def _is_instance(value: Any, member: Any) -> bool:
    kind = typing.get_origin(member) or member
    try:
        return isinstance(kind, type) and isinstance(value, kind)
    except TypeError:  # a protocol, or another class that cannot be asked
        return False


def _name(member: Any) -> str:
    if member is _NONE:
        return "None"
    return member.__name__ if isinstance(member, type) else str(member)
