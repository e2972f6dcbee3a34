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
from nomaflow_host.injection.references import described, near
from nomaflow_project.reading.problems import within_sentence

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_MAX_DEPTH = 8
_MAX_SHOWN = 3
_READ_ONCE = (abc.Iterable, abc.Iterator, abc.Generator)
_OF_ASKED = {"arbitrary_types_allowed": True, "extra": "forbid"}
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


def mentions_validated(annotation: Any) -> bool:
    """Return True if the annotation is, or holds, a type that pydantic validates."""
    return any(
        typing.get_origin(each) is typing.Annotated or (isinstance(each, type) and _has_fields(each))
        for each in _parts(annotation)
    )


def _has_fields(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or _is_typeddict(kind) or _is_model(kind)


def _parts(annotation: Any, *, depth: int = 0) -> Iterator[Any]:
    """Yield an annotation and those in it."""
    yield annotation
    if depth <= _MAX_DEPTH and typing.get_origin(annotation) is not typing.Literal:
        for each in typing.get_args(annotation):
            yield from _parts(each, depth=depth + 1)


class Validator:
    """Validates values of one annotation with pydantic, in lax mode.

    :param annotation: names the keys of its tables
    :param adapter: a `pydantic.TypeAdapter`
    :param failure: its ValidationError
    """

    def __init__(self, annotation: Any, adapter: Any, failure: type[Exception]) -> None:
        self._annotation = annotation
        self._validate = adapter.validator.validate_python  # a third of the time that the adapter's own takes
        self._failure = failure

    def __call__(self, value: Any) -> Any:
        """Return the value that fits.

        :raises Misfit: with up to three of pydantic's own findings
        """
        try:
            return self._validate(value)
        except self._failure as error:
            errors = error.errors(include_url=False, include_input=False)  # type: ignore[attr-defined]  # a ValidationError has them
            raise Misfit(_findings(errors, self._annotation)) from None
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
        return _validator(portable(annotation), config=_OF_ASKED)
    except ModuleNotFoundError:
        return _refusing(annotation, "it is not installed: pip install 'nomaflow[host]'")
    except Exception as error:  # noqa: BLE001 - the author's types may raise anything
        return _refusing(annotation, described(error))


def _validator(annotation: Any, *, config: Any = None) -> Validator:
    import pydantic  # costs 100 ms and 20 MiB, so it is imported only if a callable needs it

    # Named anew, since the adapter takes no configuration beside a class that may bring its own; that one still wins.
    anew: Any = typing.NewType
    adapter = pydantic.TypeAdapter(anew("Given", annotation), config=config)
    adapter.rebuild(raise_errors=True)  # building the adapter does not raise for undefined names, this does
    return Validator(annotation, adapter, pydantic.ValidationError)


def _refusing(annotation: Any, why: str) -> Callable[[Any], Any]:
    def validate(value: Any) -> Any:
        if isinstance(annotation, type) and not _is_typeddict(annotation) and isinstance(value, annotation):
            return value
        raise Misfit(f"pydantic cannot validate this annotation ({why})")

    return validate


def portable(annotation: Any) -> Any:
    """Return the annotation with each TypedDict in a form that pydantic accepts before Python 3.12."""
    if sys.version_info >= (3, 12):
        return annotation
    if _is_typeddict(annotation):
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
    build: Any = typing_extensions.TypedDict  # a type checker reads only those that are written down
    made = build(annotation.__name__, fields)
    if (config := getattr(annotation, "__pydantic_config__", None)) is not None:
        made.__pydantic_config__ = config
    return made


def _needs(typed_dict: Any, name: str, hint: Any) -> bool:
    """Return True if a key is required; Python itself misses a Required in a module with deferred annotations."""
    return name in typed_dict.__required_keys__ or typing.get_origin(hint) is typing.Required


def _is_typeddict(annotation: Any) -> bool:
    """Return True for a TypedDict of `typing` or of typing_extensions, which are not known to each other."""
    return isinstance(annotation, type) and issubclass(annotation, dict) and hasattr(annotation, "__required_keys__")


def _is_model(annotation: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(annotation, pydantic.BaseModel)


def _findings(errors: list[Any], annotation: Any) -> str:
    shown = []
    for error in errors[:_MAX_SHOWN]:
        *table, key = location = error["loc"] or ("",)
        place = ".".join(str(part) for part in location)
        message = within_sentence(error["msg"])
        if error["type"] in _UNKNOWN_KEY:
            message = f"unknown key{near(str(key), _keys_of(annotation, table))}"
        shown.append(f"{place}: {message}" if place else message)
    more = f"; and {len(errors) - _MAX_SHOWN} more" if len(errors) > _MAX_SHOWN else ""
    return "; ".join(shown) + more


def _keys_of(annotation: Any, place: Iterable[Any]) -> set[str]:
    """Return the keys of the tables that may be at a place of a value."""
    candidates = [annotation]
    for part in place:
        deeper = [fields[part] for fields in _tables(candidates) if part in fields]
        candidates = deeper or candidates  # an index of a list, or the name of a union's member, is no key
    return {key for fields in _tables(candidates) for key in fields}


def _tables(annotations: list[Any]) -> list[Mapping[str, Any]]:
    """Return the annotations of the keys of each table that a value so annotated may hold."""
    kinds = (each for annotation in annotations for each in _parts(annotation) if isinstance(each, type))
    return [_fields_of(kind) for kind in kinds if _has_fields(kind)]


def _fields_of(kind: Any) -> Mapping[str, Any]:
    if _is_model(kind):
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    return typing.get_type_hints(kind, include_extras=True)
