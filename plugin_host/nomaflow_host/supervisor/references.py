"""The variables that the values of an order refer to: a worker gets these with the order, not in its environment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nomaflow_api.v1.sealing import LetterError, open_order
from nomaflow_project.reading.environment import EnvironmentMissing, names_in, resolve_text

if TYPE_CHECKING:
    from nomaflow_project.reading.worker_environment import WorkerVariables

__all__ = ["variables_of_order"]

_SIGN = b"${"


def variables_of_order(letter: bytes, known: WorkerVariables) -> dict[str, str]:
    """Return the variables that a sealed order's values refer to and that its worker does not inherit.

    Values that a client gave are literal: nothing in them refers to anything.
    """
    if _SIGN not in letter:
        return {}
    try:
        order = open_order(letter)
    except LetterError:  # the worker reports it
        return {}
    found: dict[str, str] = {}
    for text, literal in ((order.kwargs_json, order.literal_kwargs), (order.params_json, order.literal_params)):
        if _SIGN in text:
            values = {key: value for key, value in _read(text).items() if key not in literal}
            for name in names_in(values) - known.inherited.keys():
                found.update(_value(name, known))
    return found


def _value(name: str, known: WorkerVariables) -> dict[str, str]:
    try:
        return {name: resolve_text(f"${{{name}}}", known.references)}
    except EnvironmentMissing:
        # With the name of its file, the worker's error says what is wrong with that.
        file = known.references.get(f"{name}_FILE")
        return {f"{name}_FILE": file} if file else {}


def _read(text: bytes) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
