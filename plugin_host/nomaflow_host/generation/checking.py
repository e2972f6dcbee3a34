"""Checks the values given for a step against its callable without calling it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow_api.v1.letters import CheckedStep, ValueProblem
from nomaflow_api.v1.sealing import fitting
from nomaflow_host.generation.contexts import resolved_values, values_of
from nomaflow_host.injection import CallPlan, PreparationFailed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

__all__ = ["unfit_values"]


def unfit_values(
    plan: CallPlan, step: CheckedStep, *, environ: Mapping[str, str], as_given: Collection[str]
) -> Iterator[ValueProblem]:
    """Yield a problem for each given value that an attempt at the step would fail for.

    :param environ: variables for ``${NAME}`` in the values
    :param as_given: names of injections; their values are not coerced
    """
    try:
        values = values_of(step.kwargs_json, "arguments")
    except PreparationFailed as error:
        yield ValueProblem(step=step.step, key="", code=error.reason_code, message=error.message)
        return
    for key in step.given_keys:
        if key not in values:
            continue
        strict = key in step.strict_keys
        try:
            resolved = resolved_values({key: values[key]}, environ, lambda _: "op_kwargs" if strict else "params")  # noqa: B023 - called at once
            plan.check(key, resolved[key], strict=strict, given=values, injected=as_given, shown=values)
        except PreparationFailed as error:
            yield ValueProblem(step=step.step, key=fitting(key), code=error.reason_code, message=error.message)
