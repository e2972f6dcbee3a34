"""The trace of hooks (``NOMAFLOW_TRACE_HOOKS=1``): every hook call as a line on stderr, for authors of plugins."""

from __future__ import annotations

import contextlib
import reprlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pluggy

TRACE_VARIABLE = "NOMAFLOW_TRACE_HOOKS"
"""The environment variable that switches tracing on, if it is set to anything but ``0`` or nothing."""

_NAMES_ONLY = frozenset({"nomaflow_contribute_connectors", "nomaflow_contribute_settings"})


def trace_hooks(manager: pluggy.PluginManager, stream: TextIO) -> None:
    """Write a line to *stream* for each hook call: implementations in the order called, arguments, result, time."""
    started: list[float] = []

    def before(hook_name: str, hook_impls: Sequence[pluggy.HookImpl], kwargs: Mapping[str, Any]) -> None:
        started.append(time.perf_counter())

    def after(
        outcome: pluggy.Result[Any],
        hook_name: str,
        hook_impls: Sequence[pluggy.HookImpl],
        kwargs: Mapping[str, Any],
    ) -> None:
        micros = (time.perf_counter() - started.pop()) * 1e6
        given = ", ".join(f"{name}={_short(value)}" for name, value in kwargs.items())
        called = " ".join(impl.plugin_name for impl in reversed(hook_impls)) or "nobody"
        line = f"nomaflow.hooks: {hook_name}({given}) -> {_result(outcome, hook_name)} [{micros:.0f} µs; {called}]\n"
        with contextlib.suppress(OSError, ValueError):  # a stream that a step has closed must not fail the call
            stream.write(line)
            stream.flush()

    manager.add_hookcall_monitoring(before, after)


def _result(outcome: pluggy.Result[Any], hook_name: str) -> str:
    if outcome.exception is not None:
        return f"raised {type(outcome.exception).__name__}: {_short(str(outcome.exception))}"
    try:
        return _shown(outcome.get_result(), hook_name)
    except Exception as error:  # noqa: BLE001 - a hostile result must not break the traced call
        return f"<a result that raises {type(error).__name__} when it is looked at>"


def _shown(result: Any, hook_name: str) -> str:
    if hook_name in _NAMES_ONLY and isinstance(result, list):
        return repr([sorted(each) if isinstance(each, Mapping) else type(each).__name__ for each in result])
    if isinstance(result, list) and any(isinstance(each, Mapping) for each in result):
        return "[" + ", ".join(_names(each) for each in result) + "]"
    return _short(result)


def _names(value: Any) -> str:
    if not isinstance(value, Mapping):
        return _short(value)
    return "{" + ", ".join(f"{name}: {type(item).__name__}" for name, item in value.items()) + "}"


def _short(value: Any) -> str:
    shortener = reprlib.Repr()
    shortener.maxother = shortener.maxstring = 100
    try:
        return shortener.repr(value)
    except Exception as error:  # noqa: BLE001 - a hostile __repr__ must not break the traced call
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
