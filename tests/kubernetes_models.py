"""Objects of Kubernetes against the models of a client library: unknown fields, missing ones, values of a wrong type.

The models are generated from Kubernetes' own OpenAPI document.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = ["problems"]


def problems(document: dict[str, Any]) -> list[str]:
    """Return what an API server would refuse in an object."""
    version, kind = document.get("apiVersion", ""), document.get("kind", "")
    group, _, release = version.rpartition("/")
    module = f"{group.removesuffix('.k8s.io').replace('.authorization', '') or 'core'}_{release}"
    try:
        model = getattr(importlib.import_module(f"lightkube.models.{module}"), kind)
    except (ImportError, AttributeError):
        return [f"there is no {kind} of {version}"]
    try:
        read = msgspec.to_builtins(msgspec.convert(document, model))
    except msgspec.ValidationError as error:
        return [str(error)]
    return [*_unknown(document, read, kind)]


def _unknown(given: object, read: object, path: str) -> Iterator[str]:
    """Yield the fields that were given and not read."""
    match given, read:
        case dict(), dict():
            for name, value in given.items():
                if name in read:
                    yield from _unknown(value, read[name], f"{path}.{name}")
                else:
                    yield f"{path} has no field {name!r}"
        case list(), list():
            for number, (one, other) in enumerate(zip(given, read, strict=True)):
                yield from _unknown(one, other, f"{path}[{number}]")
