"""Turns an order into a prepared call, and a returned value into its outcome."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nomaflow import ConnectorRegistry, RunContext, Settings, StepCancelled, StepFailed, StepResult
from nomaflow.calls import Factory, StepCall, StepOutcome
from nomaflow_host.injection.call_plan import CallPlan, plan_for
from nomaflow_host.injection.errors import PreparationFailed
from nomaflow_host.injection.references import check_reference, described, raised_at
from nomaflow_host.returned_value import EXTRAS_LIMIT, ReturnRefused, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping

    from nomaflow_api.v1.letters import CallOutcome
    from nomaflow_host.hooks.manager import HookHost
    from nomaflow_host.injection.callables import Kind

_log = logging.getLogger("nomaflow.host.hooks")
_ASK_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedCall:
    """A callable with its arguments.

    :param kind: ``async``: `call` returns a coroutine to await on the loop; ``sync``: call it in a thread
    :param call: takes no arguments
    :param location: ``file:line``, empty if unknown
    :param info: the call as the hooks see it
    :param askable: True if its code can notice a request to stop: it is a coroutine, wraps one, or was given ``ctx``
    """

    kind: Kind
    call: Callable[[], Any] = field(repr=False)
    location: str
    info: StepCall = field(repr=False)
    askable: bool = True


class CallMaker:
    """Makes calls with the hooks of one process. Each callable's signature is read once."""

    def __init__(self, *, hooks: HookHost, max_extras_bytes: int = EXTRAS_LIMIT) -> None:
        """Take the hooks that resolve, inject and normalise."""
        self._hooks = hooks
        self._max_extras_bytes = max_extras_bytes
        self._plans: dict[str, CallPlan] = {}

    def plan(self, reference: str) -> CallPlan:
        """Return the call plan of the callable that a reference names.

        :raises PreparationFailed: if it cannot be loaded or cannot be a step
        """
        plan = self._plans.get(reference)
        if plan is None:
            check_reference(reference)
            target = self._guarded(lambda: self._hooks.call.nomaflow_resolve_callable(reference=reference), "resolve")
            plan = self._plans[reference] = plan_for(target, reference=reference)
        return plan

    def prepare(
        self,
        plan: CallPlan,
        *,
        values: Mapping[str, Any],
        strict: Collection[str],
        ctx: RunContext,
        connectors: ConnectorRegistry | None,
        settings: Settings | None,
        shown: Mapping[str, Any] | None = None,
    ) -> PreparedCall:
        """Return the call, with injections made and values coerced.

        :param values: all layers merged
        :param strict: the keys of op_kwargs
        :param shown: what messages show in place of *values*
        :raises PreparationFailed: as `CallPlan.bind`, or ``hook_failed``
        """
        info = StepCall(reference=plan.reference, kind=plan.kind, ctx=ctx, connectors=connectors, settings=settings)
        injections = self._injections(plan, info, values)
        arguments = plan.bind(values, strict=strict, injections=injections, shown=shown)
        if plan.kind == "async":
            call: Callable[[], Any] = functools.partial(plan.target, **arguments)
        else:
            call = functools.partial(_call_to_the_end, plan.target, arguments, ctx.is_cancelled)
        return PreparedCall(
            kind=plan.kind,
            call=call,
            location=plan.location,
            info=info,
            askable=plan.kind == "async"
            or inspect.iscoroutinefunction(plan.function)
            or ("ctx" in arguments and "ctx" not in values),
        )

    def normalise(self, value: Any, *, call: StepCall) -> CallOutcome:
        """Return the outcome of a call that has returned a value.

        :raises StepFailed: if it cannot be recorded exactly; a ReturnRefused carries a reason code
        """
        try:
            result = self._hooks.call.nomaflow_normalise_return(value=value, call=call)
        except (StepFailed, StepCancelled):
            raise
        except Exception as error:
            raise ReturnRefused(f"a plugin failed to normalise the returned value: {_said(error)}") from error
        if not isinstance(result, StepResult):
            problem = f"a plugin normalised the returned value to {type(result).__name__}, expected StepResult"
            raise ReturnRefused(problem)
        return outcome_of(result, max_extras_bytes=self._max_extras_bytes)

    def observe(self, call: StepCall, outcome: StepOutcome | None = None) -> None:
        """Tell the plugins that a call is about to be made, or how it ended. Never raises.

        :param outcome: None before the call
        """
        try:
            if outcome is None:
                self._hooks.call.nomaflow_attempt_started(call=call)
            else:
                self._hooks.call.nomaflow_attempt_finished(call=call, outcome=outcome)
        except BaseException:  # noqa: BLE001 - an observer's mistake, sys.exit() too, is logged and changes nothing
            hook = "nomaflow_attempt_started" if outcome is None else "nomaflow_attempt_finished"
            _log.exception("a plugin's %s raised; the attempt continues", hook)

    def _injections(self, plan: CallPlan, info: StepCall, values: Mapping[str, Any]) -> dict[str, Any]:
        if not (plan.catch_all or plan.named):
            return {}
        given: dict[str, Any] = self._guarded(lambda: self._offered(info), "inject")
        for name, value in given.items():
            if isinstance(value, Factory):
                needed = name not in values and plan.injectable(name)
                given[name] = self._guarded(value.make, "inject") if needed else None
        return given

    def _offered(self, info: StepCall) -> dict[str, Any]:
        offered: dict[str, Any] = {}
        for mapping in reversed(self._hooks.call.nomaflow_contribute_injections(call=info)):
            offered.update(**mapping)  # raises if it is no mapping, or a name is no text
        return offered

    def _guarded(self, action: Callable[[], Any], what: str) -> Any:
        try:
            return action()
        except PreparationFailed:
            raise
        except Exception as error:
            raise PreparationFailed("hook_failed", f"a plugin failed to {what}: {_said(error)}") from error


def _call_to_the_end(target: Callable[..., Any], arguments: Mapping[str, Any], is_cancelled: Callable[[], bool]) -> Any:
    """Call a sync callable; if it returns a coroutine, as a plain wrapper does, run the coroutine as well."""
    try:
        value = target(**arguments)
        return _run_to_the_end(value, is_cancelled) if inspect.iscoroutine(value) else value
    except StopIteration as error:
        # No future can hold a StopIteration, so raise a RuntimeError, as Python does when one leaves a coroutine.
        raise RuntimeError("the callable raised StopIteration") from error


def _run_to_the_end(coroutine: Coroutine[Any, Any, Any], is_cancelled: Callable[[], bool]) -> Any:
    """Run a coroutine on a loop of its own; cancel it once its run must stop, as the worker's loop does."""

    async def guarded() -> tuple[Any, BaseException | None]:
        try:
            return await coroutine, None
        except BaseException as error:  # noqa: BLE001 - raised below, so that its traceback begins with the author
            return None, error

    async def watched() -> tuple[Any, BaseException | None]:
        task = asyncio.ensure_future(guarded())
        while not task.done():
            await asyncio.wait({task}, timeout=_ASK_SECONDS)
            if is_cancelled():
                task.cancel()
                break
        return await task

    value, error = asyncio.run(watched())
    if error is not None:
        raise error
    return value


def _said(error: Exception) -> str:
    return described(error) + raised_at(error)
