"""A decorator and a mark that make values cheap which are created in great numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

__all__ = ["REMEMBERED", "value_class"]

REMEMBERED = "remembered"
"""Marks a list that is decoded again and again with few changes: ``Annotated[tuple[T, ...], REMEMBERED]``."""

_C = TypeVar("_C")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def value_class(cls: type[_C]) -> type[_C]:
    """Make a dataclass with immutable values: with slots, keyword-only, compared and hashed by its fields.

    mypy checks that nobody assigns to a field. ``frozen=True`` would check it again at run time and make each value
    three times as expensive, since each field is then set by a call (1.7 µs instead of 0.55 µs for 12 fields). Kernel
    and host create several dozen of them for each run.
    """
    return dataclass(kw_only=True, slots=True, unsafe_hash=True)(cls)
