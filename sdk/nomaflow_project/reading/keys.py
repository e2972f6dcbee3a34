"""The declaration of the keys of the three files.

Each key is declared once, with its type, bounds, default, unit, first version and meaning: the same declaration
validates a file and generates docs/configuration.md and the JSON Schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cache
from types import NoneType
from typing import Any, ClassVar, get_args, get_type_hints

from pydantic import ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from nomaflow_project.reading.records import Record

__all__ = ["FORM", "Entry", "key", "seconds"]

_LONGEST_SECONDS = 1e9

FORM = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Unknown keys are refused; texts of numbers are read, as ``${NAME}`` gives them."""


class Entry(Record):
    """A table of one of the files: the base of dataclasses whose fields `key` declares.

    A table of a file is read, and checked, by `nomaflow_project.reading.validation.validate`.
    """

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = FORM

    REPLACED: ClassVar[Mapping[str, str]] = {}
    """Keys that are gone, each with what to do instead."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_true_for_one(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and info.field_name is not None:
            owner: type = cls
            annotation = _hints(owner)[info.field_name]
            kinds = set(get_args(annotation) or (annotation,)) - {NoneType}
            if kinds <= {int, float}:
                raise PydanticCustomError("wrong_type", "expected a number, got {got}", {"got": str(value).lower()})
        return value


@cache
def _hints(model: Any) -> dict[str, Any]:
    return get_type_hints(model)


def key(
    default: Any, meaning: str, *, unit: str = "", since: str = "0.1.0", of_file: bool = False, **constraints: Any
) -> Any:
    """Return the declaration of one key, a field of a dataclass.

    :param default: a value, a function that makes it, or ``...`` for a required key
    :param meaning: its row in docs/configuration.md
    :param of_file: True for a key of the file alone, which is neither compared, served nor stored
    :param constraints: bounds, as pydantic names them
    """
    extra = {"since": since, "unit": unit} if unit else {"since": since}
    metadata = {"description": meaning, "json_schema_extra": extra, **constraints}
    if default is ...:
        return field(metadata=metadata)
    if callable(default):
        return field(default_factory=default, compare=not of_file, metadata=metadata)
    return field(default=default, compare=not of_file, metadata=metadata)


def seconds(default: Any, meaning: str, *, zero: bool = False, most: float = _LONGEST_SECONDS) -> Any:
    """Return the declaration of a key that is a time in seconds, above zero unless ``zero`` is allowed."""
    bound: dict[str, Any] = {"ge": 0} if zero else {"gt": 0}
    return key(default, meaning, unit="seconds", le=most, **bound)
