"""The variables that the values of an order refer to: a worker gets these with the order, not in its environment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nomaflow_api.v1.sealing import LetterError, open_checked_steps, open_order
from nomaflow_project.reading.environment import EnvironmentMissing, names_in, resolve_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nomaflow_project.reading.worker_environment import WorkerVariables

__all__ = ["variables_of_order", "variables_of_steps"]

_SIGN = b"${"


def variables_of_order(letter: bytes, known: WorkerVariables) -> dict[str, str]:
    """Return the variables that a sealed order's values refer to and that its worker does not inherit."""
    if _SIGN not in letter:
        return {}
    try:
        order = open_order(letter)
    except LetterError:  # the worker reports it
        return {}
    return _referred_to((order.kwargs_json, order.params_json), known)


def variables_of_steps(letter: bytes, known: WorkerVariables) -> dict[str, str]:
    """Return the same for a sealed list of steps to check."""
    if _SIGN not in letter:
        return {}
    try:
        steps = open_checked_steps(letter)
    except LetterError:
        return {}
    return _referred_to((step.kwargs_json for step in steps), known)


def _referred_to(texts: Iterable[bytes], known: WorkerVariables) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        if _SIGN in text:
            for name in names_in(_read(text)) - known.inherited.keys():
                found.update(_value(name, known))
    return found


def _value(name: str, known: WorkerVariables) -> dict[str, str]:
    try:
        return {name: resolve_text(f"${{{name}}}", known.references)}
    except EnvironmentMissing:
        # With the name of its file, the worker's error says what is wrong with that.
        file = known.references.get(f"{name}_FILE")
        return {f"{name}_FILE": file} if file else {}


def _read(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
