"""One load of a project's plugin code."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib
import importlib.metadata
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from nomaflow import ConnectorRegistry, RunContext, Settings
from nomaflow.calls import StepCall, StepOutcome, StepType
from nomaflow_host.connectors import HostConnectorRegistry, ResolvedConnectors
from nomaflow_host.generation.calls import CallMaker, PreparedCall
from nomaflow_host.generation.checking import unfit_values
from nomaflow_host.generation.contexts import context_of, resolved_values, values_of
from nomaflow_host.generation.contributions import injection_names, step_types_of
from nomaflow_host.generation.discovery import extend_sys_path, find_modules
from nomaflow_host.generation.import_guard import kept_manners
from nomaflow_host.generation.imports import Imports
from nomaflow_host.generation.job_values import misfits
from nomaflow_host.generation.manifest import build_manifest, manifest_bytes
from nomaflow_host.generation.settings import SettingsSource
from nomaflow_host.generation.step_fields import step_misfits
from nomaflow_host.hooks import HookHost, Problem, build_hooks
from nomaflow_host.injection import CallPlan, PreparationFailed
from nomaflow_host.injection.credentials import credentials_of
from nomaflow_host.injection.plan import BUILTIN_INJECTIONS
from nomaflow_host.injection.references import functions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from nomaflow_api.v1.letters import AttemptOrder, CheckedStep, ValueProblem
    from nomaflow_host.generation.spec import ProjectSpec
    from nomaflow_host.injection.kinds import Kind
    from nomaflow_host.normalise import NormalisedResult

__all__ = ["Generation", "load_generation"]

_NO_CALL = StepCall(reference="", kind="sync", ctx=RunContext())


def _never() -> bool:
    return False


def _ignore(done: float, total: float | None, message: str) -> None:
    """Drop the progress."""


class Generation:
    """The plugin code of a project, loaded in this process.

    Made by `load_generation` in a template; workers forked from it use it too.
    """

    def __init__(
        self,
        *,
        spec: ProjectSpec,
        hooks: HookHost,
        imports: Imports,
        plans: Mapping[str, CallPlan | PreparationFailed],
        calls: CallMaker,
        step_types: tuple[StepType, ...],
        injections: tuple[str, ...],
        problems: tuple[Problem, ...],
    ) -> None:
        """Take the parts that `load_generation` loaded."""
        self.spec = spec
        self._hooks = hooks
        self._imports = imports
        self._plans = plans
        self._calls = calls
        self._step_types = step_types
        self._injections = injections
        self._problems = problems
        self._settings = SettingsSource(
            root=spec.root,
            file=spec.settings_file,
            first=spec.settings,
            contributions=lambda: reversed(hooks.call.nomaflow_contribute_settings()),
        )

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds that the import of each module took."""
        return dict(self._imports.timings)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of this generation; the same for the same code."""
        return build_manifest(
            spec=self.spec,
            version=importlib.metadata.version("nomaflow"),
            plans=self._plans,
            imports=self._imports,
            step_types=self._step_types,
            injections=self._injections,
            problems=[*self._hooks.problems, *self._problems],
        )

    def manifest_bytes(self) -> bytes:
        """Return the encoded manifest, as it is sent."""
        return manifest_bytes(self.manifest())

    def digest(self) -> str:
        """Return the SHA-256 of `manifest_bytes`, in hex."""
        return hashlib.sha256(self.manifest_bytes()).hexdigest()

    def kind_of(self, reference: str) -> Kind | None:
        """Return ``async`` or ``sync``, or None for an unknown callable. Imports nothing."""
        plan = self._plans.get(reference)
        return plan.kind if isinstance(plan, CallPlan) else None

    def registry(self, connectors: ResolvedConnectors) -> HostConnectorRegistry:
        """Return the registry of a worker, with the connector types that plugins contribute."""
        types: dict[str, Any] = {}
        for contributed in reversed(self._hooks.call.nomaflow_contribute_connectors()):
            types.update(contributed)
        return HostConnectorRegistry(connectors, types=types)

    def settings(self, environ: Mapping[str, str]) -> Settings:
        """Return the current settings."""
        return self._settings.current(environ)

    def credentials_of(self, order: AttemptOrder, environ: Mapping[str, str]) -> set[str]:
        """Return the credentials in an order's values, for masking."""
        types = self._step_types
        secret = {name for each in types if each.callable == order.callable for name in each.secret}
        return credentials_of(order, environ, secret=secret)

    def context(
        self,
        order: AttemptOrder,
        *,
        environ: Mapping[str, str],
        is_cancelled: Callable[[], bool] = _never,
        progress: Callable[[float, float | None, str], None] = _ignore,
        log: logging.Logger | None = None,
        now: dt.datetime | None = None,
    ) -> RunContext:
        """Return the context of an attempt; the parameters are those of `contexts.context_of`.

        :raises PreparationFailed: if the order's params cannot be read
        """
        return context_of(
            order,
            environ=environ,
            is_cancelled=is_cancelled,
            progress=progress,
            log=log or logging.getLogger("nomaflow.step"),
            now=now or dt.datetime.now(dt.UTC),
        )

    def prepare(
        self,
        order: AttemptOrder,
        *,
        environ: Mapping[str, str],
        ctx: RunContext | None = None,
        connectors: ConnectorRegistry | None = None,
        settings: Settings | None = None,
    ) -> PreparedCall:
        """Return the call that an order asks for.

        :param environ: variables for ``${NAME}`` in its values
        :param ctx: by default the one that `context` makes
        :param settings: by default the current ones
        :raises PreparationFailed: with a reason code and a sentence; there is no traceback to show
        """
        known = self._plans.get(order.callable)
        plan = known if isinstance(known, CallPlan) else self._calls.plan(order.callable)
        strict = frozenset(order.strict_keys)
        shown = values_of(order.kwargs_json, "arguments")
        values = shown
        if b"$" in order.kwargs_json:
            values = resolved_values(shown, environ, lambda key: "op_kwargs" if key in strict else "params")
        return self._calls.prepare(
            plan,
            values=values,
            strict=strict,
            ctx=ctx or self.context(order, environ=environ),
            connectors=connectors,
            settings=settings or self.settings(environ),
            shown=shown,
        )

    def check(self, step: CheckedStep, *, environ: Mapping[str, str]) -> list[ValueProblem]:
        """Return the problems of the values to check: those for which an attempt at the step would fail. Calls nothing.

        If the callable cannot be called at all, its values have no problem.

        :param environ: variables for ``${NAME}`` in the values
        """
        plan = self._plans.get(step.callable) or _plan(self._calls, step.callable)
        if not isinstance(plan, CallPlan):
            return []
        return list(unfit_values(plan, step, environ=environ, as_given=self._injections))

    def normalise(self, value: Any, *, call: StepCall | None = None) -> NormalisedResult:
        """Return the recorded form of a returned value.

        :param call: the ``info`` of the PreparedCall that returned it
        :raises StepFailed: if it cannot be recorded exactly; a ReturnRefused carries a ``reason_code``
        """
        return self._calls.normalise(value, call=call or _NO_CALL)

    def observe_started(self, call: StepCall) -> None:
        """Tell the plugins that a call is about to be made. Never raises."""
        self._calls.observe_started(call)

    def observe_finished(self, call: StepCall, outcome: StepOutcome) -> None:
        """Tell the plugins how a call ended. Never raises."""
        self._calls.observe_finished(call, outcome)


def load_generation(
    spec: ProjectSpec,
    *,
    environ: Mapping[str, str] | None = None,
    trace_stream: TextIO | None = None,
    entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
) -> Generation:
    """Import a project's plugins and every module that its jobs name, each in isolation.

    Runs in a fresh interpreter with one thread. A module that raises, exits or cannot be parsed is recorded and stops
    nothing else. The supervising process handles a module that never returns or kills the process.

    :param environ: variables for the switch that traces hooks, in place of this process's
    :param trace_stream: destination of the traces, in place of stderr
    :param entry_points: in place of those of the installed distributions
    """
    with kept_manners():
        return _load(
            spec,
            environ=os.environ if environ is None else environ,
            trace_stream=trace_stream or sys.stderr,
            entry_points=entry_points,
        )


def _load(
    spec: ProjectSpec,
    *,
    environ: Mapping[str, str],
    trace_stream: TextIO,
    entry_points: Iterable[importlib.metadata.EntryPoint] | None,
) -> Generation:
    importlib.invalidate_caches()
    extend_sys_path(spec.sys_path)
    imports = Imports()
    for name in spec.preload:
        imports.get(name)
    imports.loaded.clear()
    imports.failed.clear()
    imports.add_found(find_modules(spec.plugin_dirs))
    hooks = build_hooks(
        environ=environ,
        trace_stream=trace_stream,
        importer=imports.get,
        entry_points=entry_points,
    )
    hooks.add_modules(imports.loaded)
    step_types, problems = step_types_of(hooks)
    injections, unknown = injection_names(hooks, Settings(spec.settings))
    calls = CallMaker(hooks=hooks, max_extras_bytes=spec.max_extras_bytes)
    offered = _public_functions(imports.loaded)
    named = {*spec.named_callables, *(each.callable for each in step_types)}
    plans = {
        reference: plan
        for reference in sorted({*offered, *named})
        if isinstance(plan := _plan(calls, reference), CallPlan) or reference in named
    }
    _prepare_coercions(plans[reference] for reference in named)
    return Generation(
        spec=spec,
        hooks=hooks,
        imports=imports,
        plans=plans,
        calls=calls,
        step_types=step_types,
        injections=injections,
        problems=(
            *problems,
            *unknown,
            *misfits(spec.job_files, plans, as_given=injections),
            *step_misfits(spec.job_files, step_types),
        ),
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


def _prepare_coercions(plans: Iterable[CallPlan | PreparationFailed]) -> None:
    """Read the annotations of the callables that jobs name, so that workers share the imported and built parts."""
    for plan in plans:
        if isinstance(plan, CallPlan):
            for name in plan.named:
                if name not in BUILTIN_INJECTIONS:
                    plan.read_coercion(name)
