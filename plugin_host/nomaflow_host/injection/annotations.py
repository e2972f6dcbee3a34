"""Reads the annotations of parameters, as far as they can be evaluated."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from typing import Any

if typing.TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UNKNOWN", "evaluated", "readable", "signature_of", "unwrapped"]

UNKNOWN: Any = inspect.Parameter.empty
"""Stands for an annotation that is not there, or that cannot be evaluated."""


def signature_of(target: Callable[..., Any]) -> inspect.Signature:
    """Return the signature, with annotations left as they were written.

    :raises ValueError: if it has no readable signature, like some functions written in C
    :raises TypeError: if it is of a kind that has none
    """
    if sys.version_info >= (3, 14):
        import annotationlib

        return inspect.signature(target, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(target)


def evaluated(annotation: Any, *, function: Any) -> Any:
    """Return the annotation as a type, or `UNKNOWN` if it cannot be evaluated.

    Each annotation is evaluated alone, so that a name that only a type checker knows hides one parameter,
    not all.

    :param function: the function in whose module names are looked up
    """
    if annotation is UNKNOWN:
        return UNKNOWN
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    namespace = getattr(function, "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=namespace, localns={}, include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - whatever the author's expression raises, the value then passes unchanged
        return UNKNOWN


def unwrapped(annotation: Any) -> Any:
    """Return the type behind a NewType or a ``type`` alias."""
    for _ in range(16):
        if isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            try:
                annotation = annotation.__value__
            except Exception:  # noqa: BLE001 - a lazy alias runs the author's expression
                return UNKNOWN
        else:
            break
    return annotation


def readable(annotation: Any) -> str:
    """Return an annotation as an author would write it."""
    if annotation is UNKNOWN:
        return ""
    if annotation is type(None):
        return "None"
    try:
        if isinstance(annotation, str):
            return annotation
        return inspect.formatannotation(annotation)
    except Exception:  # noqa: BLE001 - an annotation may be any object, even one whose repr() raises
        return f"<{type(annotation).__name__}>"
