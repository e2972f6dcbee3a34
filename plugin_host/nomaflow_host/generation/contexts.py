"""Builds ``ctx`` from an order."""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from nomaflow import PreviousStep, RunContext, StepFailed, Trigger
from nomaflow_api.v1.lossless_json import ValueCodecError, loads
from nomaflow_host.injection.errors import PreparationFailed
from nomaflow_project.reading.environment import Values, resolve_tree
from nomaflow_project.reading.sources import EnvironmentMissing, ReferenceMissing

if TYPE_CHECKING:
    from nomaflow_api.v1.letters import AttemptOrder


def context_of(order: AttemptOrder, *, environ: Values, **more: Any) -> RunContext:
    """Return the context of an attempt that is about to start.

    :param environ: values for the references in params
    :param more: ``cancel_check`` and ``progress_sink`` of the context
    :raises PreparationFailed: if the params cannot be read
    """
    given = values_of(order.params_json, "params")
    params = resolved_values(given, environ, literal=order.literal_params)
    fired_at = dt.datetime.fromtimestamp(order.trigger_at_us / 1e6, dt.UTC) if order.trigger_at_us else None
    return RunContext(
        run_id=order.run_id,
        job_id=order.job_id,
        trigger=Trigger(order.trigger_kind, by=order.trigger_by, at=fired_at),
        prev_rows_affected=order.prev_rows_affected,
        parent_chain=order.parent_chain,
        step_name=order.step,
        attempt=order.attempt,
        attempt_key=order.attempt_key,
        params=params,
        log_level=order.log_level,
        deadline=dt.datetime.now(dt.UTC) + dt.timedelta(milliseconds=order.timeout_ms) if order.timeout_ms else None,
        previous_steps=_PreviousSteps(order.previous_steps_json) if order.previous_steps_json else (),
        **more,
    )


def values_of(text: bytes, name: str) -> dict[str, Any]:
    """Return the object that a JSON text of an order holds; an empty text holds an empty one.

    :param name: the object's name in errors
    :raises PreparationFailed: ``value_invalid``
    """
    if text in (b"", b"{}"):
        return {}
    try:
        values = loads(text.decode(), path=name)
    except (UnicodeDecodeError, ValueCodecError) as error:
        raise PreparationFailed("value_invalid", f"the {name} cannot be read: {error}") from None
    if not isinstance(values, dict):
        problem = f"the {name} cannot be read: expected an object, got {type(values).__name__}"
        raise PreparationFailed("value_invalid", problem)
    return values


def resolved_values(
    values: dict[str, Any], environ: Values, *, literal: Collection[str], strict: Collection[str] = ()
) -> dict[str, Any]:
    """Return the values with their references resolved.

    :param literal: keys whose values stay as they are
    :param strict: the keys of op_kwargs; the others are those of params
    :raises PreparationFailed: ``environment_missing`` or one of those for secrets, naming the value's place
    """
    try:
        return {
            key: value
            if key in literal
            else resolve_tree(value, environ, path=f"{'op_kwargs' if key in strict else 'params'}.{key}")
            for key, value in values.items()
        }
    except ReferenceMissing as error:
        hint = "; variables that connectors.toml names reach steps only if [host] pass_env lists them"
        told = f"{error}{hint}" if isinstance(error, EnvironmentMissing) else str(error)
        raise PreparationFailed(error.reason_code, told) from None


class _PreviousSteps(Sequence[PreviousStep]):
    """The previous steps, decoded on first use, since few steps ask for them.

    :param text: JSON array, which the kernel wrote: the depth of each result was checked when it was accepted
    """

    def __init__(self, text: bytes) -> None:
        self._text = text

    def __getitem__(self, index: Any) -> Any:
        return self._steps[index]

    def __len__(self) -> int:
        return len(self._steps)

    def __repr__(self) -> str:
        return repr(self._steps)

    @functools.cached_property
    def _steps(self) -> tuple[PreviousStep, ...]:
        return tuple(
            PreviousStep(
                name=step["name"],
                state=step["state"],
                rows_affected=step.get("rows_affected"),
                extras=_LeftOutExtras(step["name"]) if "extras_omitted" in step else step["extras"],
            )
            for step in json.loads(self._text)
        )


class _LeftOutExtras(Mapping[str, Any]):
    """The extras of a step that the kernel has left out for their size: a step that reads them fails."""

    def __init__(self, step: str) -> None:
        self._step = step

    def _refuse(self, *_: object) -> NoReturn:
        raise StepFailed(
            f"the extras of step {self._step!r} are not passed on: with those of earlier steps they take more than "
            "512 KiB (put data in a table, and return its row count and key)"
        )

    __getitem__ = __iter__ = __len__ = _refuse
