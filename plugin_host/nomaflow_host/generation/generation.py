"""One load of a project's plugin code."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from msgspec.structs import replace

from nomaflow import ConnectorRegistry, Settings
from nomaflow.calls import StepType
from nomaflow_host.attempt.masking import MASK
from nomaflow_host.connectors.registry import HostConnectorRegistry
from nomaflow_host.generation.calls import CallMaker, PreparedCall
from nomaflow_host.generation.checking import JobChecker, fields_of, unfit_values
from nomaflow_host.generation.contexts import context_of, resolved_values, values_of
from nomaflow_host.generation.contributions import injection_names, step_types_of
from nomaflow_host.generation.import_guard import restored_process
from nomaflow_host.generation.manifest import build_manifest
from nomaflow_host.generation.plugin_modules import Imports, extend_sys_path
from nomaflow_host.generation.settings import SettingsSource
from nomaflow_host.hooks.manager import HookHost, build_hooks
from nomaflow_host.injection.call_plan import BUILTIN_INJECTIONS, CallPlan
from nomaflow_host.injection.credentials_to_mask import credentials_of, may_refer
from nomaflow_host.injection.errors import PreparationFailed
from nomaflow_host.injection.references import functions_of
from nomaflow_project.reading.callable_references import reference_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

    from nomaflow_api.v1.letters import AttemptOrder, CheckedStep, ValueProblem
    from nomaflow_host.generation.spec import ProjectSpec
    from nomaflow_host.hooks.installed_plugins import EntryPoint
    from nomaflow_project.connectors.connector_set import ConnectorSet
    from nomaflow_project.reading.environment import Values


@dataclass(kw_only=True, eq=False)
class Generation:
    """The plugin code of a project, loaded in this process.

    Made by `load_generation` in a template; workers forked from it use it too.

    :param calls: makes calls, and records what they return
    :param plans: reference to the way to call it, or to the reason why it cannot be called
    :param step_types: the contributed step types, by name
    :param injections: the names that callables can be given without an op_kwarg
    :param problems: entries of the manifest
    """

    spec: ProjectSpec
    hooks: HookHost
    imports: Imports
    plans: Mapping[str, CallPlan | PreparationFailed]
    calls: CallMaker
    step_types: Mapping[str, StepType]
    injections: tuple[str, ...]
    problems: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        """Read no settings yet."""
        self.settings = SettingsSource(
            root=self.spec.root,
            file=self.spec.settings_file,
            good=self.spec.settings,
            contributions=lambda: reversed(self.hooks.call.nomaflow_contribute_settings()),
        ).current
        """Returns the current settings."""

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of this generation; the same for the same code."""
        return build_manifest(self)

    def registry(self, connectors: ConnectorSet) -> HostConnectorRegistry:
        """Return the registry of a worker, with the connector types that plugins contribute."""
        types: dict[str, Any] = {}
        for contributed in reversed(self.hooks.call.nomaflow_contribute_connectors()):
            types.update(contributed)
        return HostConnectorRegistry(connectors, types=types)

    def credentials_of(self, order: AttemptOrder, environ: Values) -> set[str]:
        """Return the credentials in an order's values, for masking."""
        types = self.step_types.values()
        of_types = {name for each in types if each.callable == order.callable for name in each.secret}
        secret = of_types.union(order.secret_keys)
        return credentials_of(order, environ, secret=secret)

    def may_take_connectors(self, reference: str) -> bool:
        """Return False if a callable does not use ``connectors``: it neither names them nor has ``**more``.

        One whose ``**`` begins with ``_`` says that it ignores what arrives there.
        """
        plan = self.plans.get(reference)
        if not isinstance(plan, CallPlan):
            return True
        return "connectors" in plan.named or (not plan.catch_all.startswith("_") and bool(plan.catch_all))

    def prepare(
        self,
        order: AttemptOrder,
        *,
        environ: Values,
        connectors: ConnectorRegistry | None = None,
        **of_context: Any,
    ) -> PreparedCall:
        """Return the call that an order asks for.

        :param environ: values for the references in its values
        :param of_context: further fields of the context, see `context_of`
        :raises PreparationFailed: with a reason code and a sentence; there is no traceback to show
        """
        ctx = context_of(order, environ=environ, **of_context)
        known = self.plans.get(order.callable)
        plan = known if isinstance(known, CallPlan) else self.calls.plan(order.callable)
        strict = frozenset(order.strict_keys)
        shown = values_of(order.kwargs_json, "arguments")
        values = shown
        if may_refer(order):
            values = resolved_values(shown, environ, literal=order.literal_kwargs, strict=strict)
        return self.calls.prepare(
            plan,
            values=values,
            strict=strict,
            ctx=ctx,
            connectors=connectors,
            settings=self.settings(),
            shown={**shown, **dict.fromkeys(order.secret_keys, MASK)} if order.secret_keys else shown,
        )

    def check(self, step: CheckedStep) -> list[ValueProblem]:
        """Return the problems of the values that would fail an attempt at the step. Calls nothing.

        If the callable cannot be called at all, its values have no problem.
        """
        plan = self.plans.get(step.callable) or _plan(self.calls, step.callable)
        if not isinstance(plan, CallPlan):
            return []
        return list(unfit_values(plan, step, as_given=self.injections))


@restored_process()
def load_generation(
    spec: ProjectSpec,
    *,
    trace_stream: TextIO | None = None,
    entry_points: Iterable[EntryPoint] | None = None,
) -> Generation:
    """Import a project's plugins and every module that its jobs name, each in isolation.

    Runs in a fresh interpreter with one thread. A module that raises, exits or cannot be parsed is recorded and stops
    nothing else. The supervising process handles a module that never returns or kills the process.

    :param trace_stream: destination of the traces, in place of stderr
    :param entry_points: in place of those of the installed distributions
    """
    trace_stream = trace_stream or sys.stderr  # a module that is imported may put another stream there
    importlib.invalidate_caches()
    extend_sys_path(spec.sys_path)
    imports = Imports(withheld=frozenset(spec.withheld))
    for name in spec.preload:
        imports.get(name)
    imports.loaded.clear()
    imports.failed.clear()
    imports.add_folders(spec.plugin_dirs)
    hooks = build_hooks(
        environ=os.environ,
        trace_stream=trace_stream,
        importer=imports.get,
        entry_points=entry_points,
    )
    hooks.add_modules(imports.loaded)
    step_types, broken_types = step_types_of(hooks)
    injections, unknown_names = injection_names(hooks, Settings(spec.settings))
    calls = CallMaker(hooks=hooks, max_extras_bytes=spec.max_extras_bytes)
    named = {each for each in spec.named_callables if reference_error(each) is None}
    named.update(each.callable for each in step_types.values())
    plans: dict[str, CallPlan | PreparationFailed] = {}
    for reference in sorted({*_public_functions(imports.loaded), *named}):
        plan = _plan(calls, reference)
        if isinstance(plan, CallPlan) and reference in named:
            types = [fields_of(each) for each in step_types.values() if each.callable == reference]
            plan = replace(plan, declared=frozenset(name for each in types for name in each.fields))
            _read_coercions(plan)
        if isinstance(plan, CallPlan) or reference in named:
            plans[reference] = plan
    checker = JobChecker(plans=plans, types=step_types, as_given=injections)
    problems = (*hooks.problems, *broken_types, *unknown_names, *checker.problems(spec.job_files, host=spec.host))
    return Generation(
        spec=spec,
        hooks=hooks,
        imports=imports,
        plans=plans,
        calls=calls,
        step_types=step_types,
        injections=injections,
        problems=tuple(problem.to_json() for problem in problems),
    )


def _public_functions(modules: Mapping[str, ModuleType]) -> list[str]:
    """Return the references of the public functions that the modules of the plugin folders define."""
    return [
        f"{name}:{attribute}"
        for name, module in modules.items()
        for attribute, value in functions_of(module)
        if value.__module__ == name and not attribute.startswith("_") and not hasattr(value, "nomaflow_impl")
    ]


def _plan(calls: CallMaker, reference: str) -> CallPlan | PreparationFailed:
    try:
        return calls.plan(reference)
    except PreparationFailed as error:
        return error


def _read_coercions(plan: CallPlan) -> None:
    """Read the annotations of a callable that jobs name, so that workers share the imported and built parts."""
    for name in plan.named:
        if name not in BUILTIN_INJECTIONS:
            plan.read_coercion(name)
