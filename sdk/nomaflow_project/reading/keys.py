"""The declaration of the keys of the three files.

Each key is declared once, with its type, bounds, default, unit, first version and meaning: the same declaration
validates a file and generates docs/configuration.md and the JSON Schemas.
"""

from __future__ import annotations

from functools import cache
from types import NoneType
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

__all__ = ["FORM", "Entry", "key", "no_truth_values", "seconds"]

_LONGEST_SECONDS = 1e9

FORM = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
"""Unknown keys are refused; texts of numbers are read, as ``${NAME}`` gives them."""


def _no_truth_value(cls: type, value: object, info: ValidationInfo) -> object:
    if isinstance(value, bool) and info.field_name is not None:
        annotation = _hints(cls)[info.field_name]
        kinds = set(get_args(annotation) or (annotation,)) - {NoneType}
        if kinds <= {int, float}:
            raise PydanticCustomError("wrong_type", "expected a number, got {got}", {"got": str(value).lower()})
    return value


no_truth_values: Any = field_validator("*", mode="before")(classmethod(_no_truth_value))
"""For the body of a class of keys: refuses true and false for the numbers 1 and 0."""

_hints = cache(get_type_hints)


class Entry(BaseModel):
    """A table of one of the files."""

    model_config = FORM

    _no_truth_values = no_truth_values


def key(default: Any, meaning: str, *, unit: str = "", since: str = "0.1.0", **constraints: Any) -> Any:
    """Return the declaration of one key; for ``Annotated`` of a dataclass's field, which has a default itself.

    :param default: a value, a function that makes it, or ``...`` for a required key and for ``Annotated``
    :param meaning: its row in docs/configuration.md
    """
    if callable(default) and default is not ...:
        constraints["default_factory"] = default
    else:
        constraints["default"] = default
    extra: dict[str, Any] = {"since": since, **constraints.pop("extra", {})}
    if unit:
        extra["unit"] = unit
    return Field(description=meaning, json_schema_extra=extra, **constraints)


def seconds(default: Any, meaning: str, *, zero: bool = False, most: float = _LONGEST_SECONDS) -> Any:
    """Return the declaration of a key that is a time in seconds, above zero unless ``zero`` is allowed."""
    bound: dict[str, Any] = {"ge": 0} if zero else {"gt": 0}
    return key(default, meaning, unit="seconds", le=most, **bound)
