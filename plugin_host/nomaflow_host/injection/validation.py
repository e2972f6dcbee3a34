"""Coercions with pydantic for parameters whose annotation is not a plain scalar.

pydantic is imported for the first such parameter, so that workers without one do not load it.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import sys
import types
import typing
from collections import abc
from typing import Any

from nomaflow_host.injection.errors import Misfit
from nomaflow_host.injection.references import described

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAX_DEPTH = 8
_MAX_SHOWN = 3
_READ_ONCE = (abc.Iterable, abc.Iterator, abc.Generator)


def mentions_validated(annotation: Any) -> bool:
    """Return True if the annotation is, or holds, a type that pydantic validates."""
    return any(
        typing.get_origin(each) is typing.Annotated
        or (isinstance(each, type) and (dataclasses.is_dataclass(each) or typing.is_typeddict(each) or _is_model(each)))
        for each in _parts(annotation)
    )


def _parts(annotation: Any, *, depth: int = 0) -> Iterator[Any]:
    """Yield an annotation and those in it."""
    yield annotation
    if depth <= _MAX_DEPTH and typing.get_origin(annotation) is not typing.Literal:
        for each in typing.get_args(annotation):
            yield from _parts(each, depth=depth + 1)


class Validator:
    """Validates values of one annotation with pydantic, in lax mode.

    :param adapter: a `pydantic.TypeAdapter`
    :param failure: its ValidationError
    """

    def __init__(self, adapter: Any, failure: type[Exception]) -> None:
        self._validate = adapter.validator.validate_python  # a third of the time that the adapter's own takes
        self._failure = failure

    def __call__(self, value: Any) -> Any:
        """Return the value that fits.

        :raises Misfit: with up to three of pydantic's own findings
        """
        try:
            return self._validate(value)
        except self._failure as error:
            raise Misfit(_findings(error.errors(include_url=False, include_input=False))) from None  # type: ignore[attr-defined]  # a ValidationError has them
        except Exception as error:  # noqa: BLE001 - an author's validator, or a type's own constructor
            raise Misfit(described(error)) from None

    def accepts_unchanged(self, value: Any) -> bool:
        """Return True if the value needs no conversion."""
        try:
            self._validate(value, strict=True)
        except Exception:  # noqa: BLE001 - as above
            return False
        return True


def validator_for(annotation: Any) -> Validator | None:
    """Return a validator for values of the annotation, or None if pydantic does not know it: then values pass."""
    # For iterables and iterators pydantic would pass on a generator in place of the given list.
    if any((typing.get_origin(each) or each) in _READ_ONCE for each in _parts(annotation)):
        return None
    try:
        return _validator(annotation)
    except Exception:  # noqa: BLE001 - the author's types may raise anything, and pydantic may not be installed
        return None


def validator_of_asked(annotation: Any) -> Callable[[Any], Any]:
    """Return a validator for an annotation for which `mentions_validated` is True.

    If pydantic cannot validate it, the validator raises `Misfit` with the reason.
    """
    try:
        return _validator(portable(annotation), arbitrary_types=True)
    except ModuleNotFoundError:
        return _refusing(annotation, "it is not installed: pip install 'nomaflow[host]'")
    except Exception as error:  # noqa: BLE001 - the author's types may raise anything
        return _refusing(annotation, described(error))


def _validator(annotation: Any, *, arbitrary_types: bool = False) -> Validator:
    import pydantic  # costs 100 ms and 20 MiB, so it is imported only if a callable needs it

    try:
        config = pydantic.ConfigDict(arbitrary_types_allowed=True) if arbitrary_types else None
        adapter = pydantic.TypeAdapter(annotation, config=config)
    except pydantic.PydanticUserError:  # a type that brings its own configuration takes no other
        adapter = pydantic.TypeAdapter(annotation)
    adapter.rebuild(raise_errors=True)  # building the adapter does not raise for undefined names, this does
    return Validator(adapter, pydantic.ValidationError)


def _refusing(annotation: Any, why: str) -> Callable[[Any], Any]:
    def validate(value: Any) -> Any:
        if isinstance(annotation, type) and not typing.is_typeddict(annotation) and isinstance(value, annotation):
            return value
        raise Misfit(f"pydantic cannot validate this annotation ({why})")

    return validate


def portable(annotation: Any) -> Any:
    """Return the annotation with each TypedDict in a form that pydantic accepts before Python 3.12."""
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
        name: portable(hint) if _needs(annotation, name, hint) else typing.NotRequired[portable(hint)]
        for name, hint in typing.get_type_hints(annotation, include_extras=True).items()
    }
    return typing_extensions.TypedDict(annotation.__name__, fields)  # type: ignore[operator]  # built at run time


def _needs(typed_dict: Any, name: str, hint: Any) -> bool:
    """Return True if a key is required; Python itself misses a Required in a module with deferred annotations."""
    return name in typed_dict.__required_keys__ or typing.get_origin(hint) is typing.Required


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
