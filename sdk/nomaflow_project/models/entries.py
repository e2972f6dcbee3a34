"""The common parts of the models of the three files.

Each key is declared once, with its type, bounds, default, unit, first version and meaning: the same declaration
validates a file and generates docs/configuration.md and the JSON Schemas.
"""

from __future__ import annotations

from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

__all__ = ["Entry", "key", "seconds"]

_LONGEST_SECONDS = 1e9


class Entry(BaseModel):
    """A table of one of the files. Unknown keys are refused; texts of numbers are read, as ``${NAME}`` gives them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_true_for_one(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            kinds = set(get_args(annotation) or (annotation,)) - {NoneType}
            if kinds <= {int, float}:
                raise PydanticCustomError("wrong_type", "expected a number, got {got}", {"got": str(value).lower()})
        return value


def key(default: Any, meaning: str, *, unit: str = "", since: str = "0.1.0", **constraints: Any) -> Any:
    """Return the declaration of one key; ``...`` as default makes it required.

    :param meaning: its row in docs/configuration.md
    """
    if callable(default) and default is not ...:
        constraints["default_factory"] = default
    else:
        constraints["default"] = default
    extra: dict[str, Any] = {"since": since}
    if unit:
        extra["unit"] = unit
    return Field(description=meaning, json_schema_extra=extra, **constraints)


def seconds(default: Any, meaning: str, *, zero: bool = False, most: float = _LONGEST_SECONDS) -> Any:
    """Return the declaration of a key that is a time in seconds, above zero unless ``zero`` is allowed."""
    bound: dict[str, Any] = {"ge": 0} if zero else {"gt": 0}
    return key(default, meaning, unit="seconds", le=most, **bound)
