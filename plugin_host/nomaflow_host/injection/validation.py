"""Values for parameters annotated with models, dataclasses, TypedDicts or ``Annotated``: pydantic reads them.

pydantic is imported when the first such parameter is met, so that a worker without any does without it.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import sys
import types
import typing
from typing import Any

from nomaflow_host.injection.scalars import Misfit

if typing.TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["mentions_validated", "validator_for"]

_MAX_DEPTH = 8
_MAX_SHOWN = 3


def mentions_validated(annotation: Any, *, depth: int = 0) -> bool:
    """Return True if the annotation is, or holds, a type that pydantic validates."""
    if isinstance(annotation, type) and (
        dataclasses.is_dataclass(annotation) or typing.is_typeddict(annotation) or _is_model(annotation)
    ):
        return True
    if typing.get_origin(annotation) is typing.Annotated:
        return True
    if typing.get_origin(annotation) is typing.Literal or depth > _MAX_DEPTH:
        return False
    return any(mentions_validated(each, depth=depth + 1) for each in typing.get_args(annotation))


def validator_for(annotation: Any) -> Callable[[Any], Any]:
    """Return what validates values of the annotation.

    The result raises `Misfit` with up to three of pydantic's own findings, or with why pydantic cannot validate the
    annotation at all.
    """
    try:
        import pydantic  # costs 100 ms and 20 MiB, so only where a callable asks for it
    except ModuleNotFoundError:
        return _refusing(annotation, "it is not installed: pip install 'nomaflow[host]'")
    try:
        adapter = _adapter(pydantic, portable(annotation))
    except Exception as error:  # noqa: BLE001 - the author's types raise what they like
        return _refusing(annotation, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")

    def validate(value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except pydantic.ValidationError as error:
            raise Misfit(_findings(error.errors(include_url=False, include_input=False))) from None

    return validate


def _adapter(pydantic: Any, annotation: Any) -> Any:
    try:
        return pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
    except pydantic.PydanticUserError:  # a type that brings its own configuration takes no other
        return pydantic.TypeAdapter(annotation)


def _refusing(annotation: Any, why: str) -> Callable[[Any], Any]:
    def validate(value: Any) -> Any:
        if isinstance(annotation, type) and not typing.is_typeddict(annotation) and isinstance(value, annotation):
            return value
        raise Misfit(f"pydantic cannot validate this annotation ({why})")

    return validate


def portable(annotation: Any) -> Any:
    """Return the annotation with each TypedDict in a form that pydantic takes before Python 3.12."""
    if sys.version_info >= (3, 12):
        return annotation
    if typing.is_typeddict(annotation):
        return _portable_typeddict(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return typing.Annotated[(portable(arguments[0]), *annotation.__metadata__)]
    if origin is None or origin is typing.Literal or not mentions_validated(annotation):
        return annotation
    converted = tuple(portable(each) for each in arguments)
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, converted)
    return origin[converted]


def _portable_typeddict(annotation: Any) -> Any:
    import typing_extensions  # comes with pydantic

    fields = {
        name: portable(hint) if name in annotation.__required_keys__ else typing.NotRequired[portable(hint)]
        for name, hint in typing.get_type_hints(annotation, include_extras=True).items()
    }
    return typing_extensions.TypedDict(annotation.__name__, fields)  # type: ignore[operator]  # made of what is found


def _is_model(annotation: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(annotation, pydantic.BaseModel)


def _findings(errors: list[Any]) -> str:
    shown = []
    for error in errors[:_MAX_SHOWN]:
        place = ".".join(str(part) for part in error["loc"])
        message = error["msg"][:1].lower() + error["msg"][1:]
        shown.append(f"{place}: {message}" if place else message)
    more = f"; and {len(errors) - _MAX_SHOWN} more" if len(errors) > _MAX_SHOWN else ""
    return "; ".join(shown) + more
