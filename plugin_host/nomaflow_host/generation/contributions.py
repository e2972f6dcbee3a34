"""Contributions of plugins to a generation's manifest: step types, and the names of injections."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nomaflow import RunContext, Settings
from nomaflow.calls import StepCall, StepType
from nomaflow_api.v1.lossless_json import plain_tree
from nomaflow_host.connectors.registry import HostConnectorRegistry
from nomaflow_host.generation.checking import fields_of
from nomaflow_host.hooks.manager import HookHost
from nomaflow_host.injection.call_plan import BUILTIN_INJECTIONS
from nomaflow_host.injection.references import described
from nomaflow_project.connectors.connector_set import ConnectorSet
from nomaflow_project.jobs.manifest import check_entry
from nomaflow_project.reading.callable_references import reference_error
from nomaflow_project.reading.problems import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping


def step_types_of(hooks: HookHost) -> tuple[dict[str, StepType], list[Problem]]:
    """Return the contributed step types by name, and a problem for each unusable one and each plugin that raises."""
    try:
        contributed = [each for types in hooks.call.nomaflow_step_types() for each in types]
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin's mistake is a problem and does not end the load
        return {}, [_problem(f"a plugin's nomaflow_step_types raised {described(error)}")]
    good: dict[str, StepType] = {}
    problems: list[Problem] = []
    for each in contributed:
        try:
            good[each.name] = _usable(each)
        except Exception as error:  # noqa: BLE001 - as above; a model raises what its fields do
            name = getattr(each, "name", type(each).__name__)
            problems.append(_problem(f"the step type {name!r} of a plugin cannot be used: {error}"))
    return good, problems


def _usable(each: StepType) -> StepType:
    """Return a step type in normal form.

    :raises TypeError: if a part of it is of a wrong type
    :raises ValueError: if it refers to a field that it does not have (a model may raise anything)
    """
    schema: Mapping[str, Any] = each.schema
    if each.model is not None:
        if not hasattr(each.model, "model_json_schema"):
            raise TypeError(f"its model is {each.model!r}, expected a pydantic model")
        schema = each.model.model_json_schema()
    usable = replace(
        each,
        schema=plain_tree(dict(schema), path="schema"),
        overridable=_names(each.overridable, "overridable"),
        secret=_names(each.secret, "secret"),
    )
    fields = fields_of(usable)
    check_entry(fields.to_json(), "step type")
    if (problem := reference_error(usable.callable)) is not None:
        raise ValueError(f"its callable is not a reference: {problem}")
    for name in (*usable.overridable, *usable.secret):
        if not fields.takes(name):
            raise ValueError(f"it has no field {name!r}, which its overridable or secret names")
    return usable


def _names(given: Any, what: str) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"its {what} is {given!r}, expected a tuple of names")
    return tuple(given)


def injection_names(hooks: HookHost, settings: Settings) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the names that callables can be given without an op_kwarg, sorted.

    Each plugin is asked with a call that belongs to no run. If it raises, its names stay unknown, with a warning.
    """
    registry = HostConnectorRegistry(ConnectorSet())
    call = StepCall(reference="", kind="async", ctx=RunContext(), connectors=registry, settings=settings)
    names = set(BUILTIN_INJECTIONS)
    problems: list[Problem] = []
    for implementation in hooks.call.nomaflow_contribute_injections.get_hookimpls():
        try:
            answer = implementation.function(*(call for _ in implementation.argnames))  # it may leave the parameter out
            names.update(str(name) for name in answer or ())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
            message = (
                f"what the plugin {implementation.plugin_name!r} injects is not known before a run, "
                f"since its nomaflow_contribute_injections raised {described(error)}"
            )
            fix = "let it return its names for an empty RunContext, too; values can be made on demand with a Factory"
            problems.append(Place("").warning("hook_failed", message, fix=fix))
    return tuple(sorted(names)), problems


def _problem(message: str) -> Problem:
    return Place("").error("hook_failed", message, fix="correct the plugin, then reload the host")
