"""Chooses the coercion for a parameter's annotation.

| annotated | is |
|---|---|
| int, float, bool, str | read by the rules of `scalars` |
| a union of these and others | left alone if it fits a member, else read as a scalar, else as one of the others |
| a model, a dataclass, a TypedDict, ``Annotated``, and a union with one of them | validated by pydantic |
| any other annotation that pydantic knows | validated by pydantic, in lax mode |
| no annotation, or an unknown one | passed as it is |
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

from nomaflow_host.injection.annotations import UNKNOWN, unwrapped
from nomaflow_host.injection.scalars import SCALARS, Misfit
from nomaflow_host.injection.validation import Validator, mentions_validated, validator_for, validator_of_asked

__all__ = ["Coercion", "coercion_for"]

Coercion = Callable[[Any], Any]
"""Returns the value that fits, or raises `Misfit`."""

_NONE = type(None)
_NUMBERS = (int, float)
_NAMES = (int, float, bool, str)


def coercion_for(annotation: Any) -> Coercion | None:
    """Return the coercion of an evaluated annotation, or None if values pass unchanged."""
    annotation = unwrapped(annotation)
    if annotation is UNKNOWN or annotation is Any:
        return None
    if isinstance(annotation, type) and annotation in _NAMES:
        return SCALARS[annotation]
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
                return SCALARS[member](value)
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
