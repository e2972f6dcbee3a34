"""Dataclasses as JSON: there and back without loss, ignoring additions of a newer version."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from types import NoneType
from typing import Any, Self, get_args, get_origin, get_type_hints


class Record:
    """The base of dataclasses that are sent or stored. Fields that are not compared are left out."""

    __slots__ = ()

    def to_json(self, *, compact: bool = False) -> dict[str, Any]:
        """Return the record as a JSON-ready dict, keys in order of declaration.

        :param compact: leave out default values, so that a field added by a later version changes no digest
        """
        return {
            name: _plain(value, compact=compact)
            for name, default in _defaults(type(self)).items()  # type: ignore[arg-type]  # a class is hashable
            if (value := getattr(self, name)) != default or not compact
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the record that `to_json` wrote, by this version or another.

        :raises KeyError: if a field without a default is missing
        :raises ValueError: if an enumerated value is not known
        """
        readers = _readers(cls)  # type: ignore[arg-type]  # as above
        values = {name: readers[name](value) for name, value in data.items() if name in readers}
        for name, default in _defaults(cls).items():  # type: ignore[arg-type]  # as above
            if default is MISSING and name not in values:
                raise KeyError(name)
        return cls(**values)


@cache
def _defaults(cls: type) -> Mapping[str, Any]:
    """Return the default of each field, or MISSING. They are only compared with, never handed out."""
    return {
        each.name: each.default if each.default_factory is MISSING else each.default_factory()
        for each in fields(cls)
        if each.compare
    }


@cache
def _readers(cls: type) -> Mapping[str, Callable[[Any], Any]]:
    hints = get_type_hints(cls)
    return {name: _reader(hints[name]) for name in _defaults(cls)}


def _reader(hint: Any) -> Callable[[Any], Any]:
    """Return a function from a JSON value to a value of a type."""
    kinds = get_args(hint)
    if NoneType in kinds:
        read = _reader(next(kind for kind in kinds if kind is not NoneType))
        return lambda value: None if value is None else read(value)
    if get_origin(hint) is tuple:
        item = _reader(kinds[0])
        return lambda values: tuple(map(item, values))
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_json
    return hint if isinstance(hint, type) and issubclass(hint, enum.Enum) else lambda value: value


def _plain(value: Any, *, compact: bool) -> Any:
    if isinstance(value, Record):
        return value.to_json(compact=compact)
    if isinstance(value, dict):
        return {name: _plain(item, compact=compact) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item, compact=compact) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    return value
