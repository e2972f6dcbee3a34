"""Classifies callables: async, sync, or not usable as a step."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Literal

from nomaflow_host.injection.errors import PreparationFailed

__all__ = ["Kind", "innermost", "kind_of_callable"]

Kind = Literal["async", "sync"]


def kind_of_callable(target: Any, *, reference: str) -> Kind:
    """Return how *target* is called: awaited on the loop, or called in a thread.

    Coroutine functions and objects whose ``__call__`` is one are async, also behind partials and methods. A plain
    function that wraps a coroutine function is sync; if it returns a coroutine, that is run to its end in the same

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
        if inspect.isasyncgenfunction(function):
            raise _unsupported(reference, "an async generator", "return a value instead of yielding")
        if inspect.isgeneratorfunction(function):
            raise _unsupported(reference, "a generator", "return a value instead of yielding")
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
