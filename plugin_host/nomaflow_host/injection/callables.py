"""Reads callables: whether they are async, their signatures, and their annotations as far as those can be evaluated."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from typing import Any, Literal

from nomaflow_host.injection.errors import PreparationFailed
from nomaflow_host.injection.references import stable

if typing.TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["async", "sync"]

UNKNOWN: Any = inspect.Parameter.empty
"""Stands for an annotation that is not there, or that cannot be evaluated."""


def kind_of_callable(target: Any, *, reference: str) -> Kind:
    """Return how *target* is called: awaited on the loop, or called in a thread.

    Coroutine functions and objects whose ``__call__`` is one are async, also behind partials and methods. A plain
    function that wraps a coroutine function is sync; if it returns a coroutine, that is run to its end in the same
    thread.

    :param reference: the callable's name in errors
    :raises PreparationFailed: ``callable_unsupported`` for classes, generators, async generators, and objects that are
        not callable
    """
    unwrapped = _without_partials(target)
    if inspect.isclass(unwrapped):
        raise _unsupported(reference, "a class", "name a function, or an instance with __call__")
    if not callable(unwrapped):
        what = f"an object of type {type(unwrapped).__name__}, which is not callable"
        raise _unsupported(reference, what, "name a function")
    called = _called(unwrapped)
    for function in (called, inspect.unwrap(called) if inspect.isfunction(called) else called):
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            what = "an async generator" if inspect.isasyncgenfunction(function) else "a generator"
            raise _unsupported(reference, what, "return a value instead of yielding")
    return "async" if inspect.iscoroutinefunction(called) else "sync"


def innermost(target: Any) -> Any:
    """Return the function that an author wrote, below partials, methods, ``__call__`` and ``functools.wraps``."""
    called = _called(_without_partials(target))
    if inspect.ismethod(called):
        called = called.__func__
    try:
        return inspect.unwrap(called)
    except ValueError:  # a cycle of __wrapped__
        return called


def _without_partials(target: Any) -> Any:
    while isinstance(target, functools.partial):
        target = target.func
    return target


def _called(target: Any) -> Any:
    if inspect.isroutine(target):
        return target
    return getattr(type(target), "__call__", target)  # noqa: B004 - the method itself is wanted, not whether it is there


def _unsupported(reference: str, what: str, way_out: str) -> PreparationFailed:
    return PreparationFailed("callable_unsupported", f"the callable {reference!r} is {what} ({way_out})")


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
    """Return an annotation as an author would write it; the same code always gives the same text."""
    if annotation is UNKNOWN:
        return ""
    if annotation is type(None):
        return "None"
    try:
        if isinstance(annotation, str):
            return annotation
        return stable(inspect.formatannotation(annotation))
    except Exception:  # noqa: BLE001 - an annotation may be any object, even one whose repr() raises
        return f"<{type(annotation).__name__}>"
