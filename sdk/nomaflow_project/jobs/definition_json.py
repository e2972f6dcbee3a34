"""Definitions as JSON: there and back without loss, ignoring additions of a newer version."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

__all__ = ["Definition", "canonical_json", "known_fields"]


def canonical_json(definition: Mapping[str, Any]) -> str:
    """Return the text under which a definition is stored, and that its digest covers."""
    return json.dumps(definition, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


class Definition:
    """The base of all definitions: conversion to JSON and back."""

    __slots__ = ()

    def to_json(self, *, compact: bool = False) -> dict[str, Any]:
        """Return the definition as a JSON-ready dict, keys in order of declaration.

        :param compact: leave out default values, so that a field added by a later version changes no digest
        """
        result = {}
        for name, default in _defaults(type(self)).items():  # type: ignore[arg-type]  # a class is hashable
            value = getattr(self, name)
            if compact and value == default:
                continue
            result[name] = _plain(value, compact=compact)
        return result


def known_fields(cls: type, data: Mapping[str, Any], **readers: Any) -> dict[str, Any]:
    """Return the fields of ``cls`` that ``data`` has, each converted by its reader; None stays None."""
    names, required = _names(cls)
    result = {
        name: value if value is None or (read := readers.get(name)) is None else read(value)
        for name, value in data.items()
        if name in names
    }
    for name in required:
        if name not in result:
            raise KeyError(name)
    return result


@cache
def _names(cls: type) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the fields, and of those without a default."""
    found = fields(cls)
    required = {each.name for each in found if each.default is MISSING and each.default_factory is MISSING}
    return frozenset(each.name for each in found), frozenset(required)


@cache
def _defaults(cls: type) -> Mapping[str, Any]:
    """Return the default of each field, or MISSING. They are only compared with, never handed out."""
    return {
        each.name: each.default if each.default_factory is MISSING else each.default_factory() for each in fields(cls)
    }


def _plain(value: Any, *, compact: bool) -> Any:
    if isinstance(value, Definition):
        return value.to_json(compact=compact)
    if isinstance(value, tuple):
        return [_plain(item, compact=compact) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    return value
