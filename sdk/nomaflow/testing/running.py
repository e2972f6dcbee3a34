"""Runs one callable in the test's own process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nomaflow.connectors import ConnectorRegistry
from nomaflow.context import RunContext
from nomaflow.errors import StepCancelled, StepFailed
from nomaflow.settings import Settings
from nomaflow.testing.host_machinery import host_machinery
from nomaflow_project.connectors.connector_set import ConnectorSet
from nomaflow_project.reading.environment import Values, resolve_tree
from nomaflow_project.reading.sources import ProjectSources, ReferenceMissing

TRIAL = RunContext(run_id="run_test", job_id="test", step_name="test", attempt_key="run_test/test/1")
"""The context of a call that is given none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallableOutcome:
    """The outcome of a callable, as it would be in the run's record.

    :param state: ``SUCCEEDED``, ``FAILED`` or ``CANCELED``
    :param rows_affected: the count that would be added to the run's total
    :param extras: the other keys, as the record returns them
    :param error: the short error text, empty if there is none
    :param reason_code: the reason's code, empty for ``SUCCEEDED``
    :param exception: the exception that the callable raised; None if it raised none, or was never called
    :param warnings: notes on the result, such as large extras
    :param progress: each reported (done, total, message)
    :param records: the log records of the call
    """

    state: str
    rows_affected: int | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    reason_code: str = ""
    exception: BaseException | None = None
    warnings: tuple[str, ...] = ()
    progress: tuple[tuple[float, float | None, str], ...] = ()
    records: tuple[logging.LogRecord, ...] = field(default=(), repr=False)

    @property
    def logs(self) -> list[str]:
        """The messages of the log records."""
        return [record.getMessage() for record in self.records]


async def run_callable(
    target: Callable[..., Any] | str,
    *,
    op_kwargs: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    ctx: RunContext | None = None,
    connectors: ConnectorRegistry | None = None,
    settings: Settings | None = None,
    cancel_after: float | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - the step's own limit, which is under test
    environ: Values | None = None,
    plugins: Mapping[str, Any] | None = None,
) -> CallableOutcome:
    """Call a callable as a host would and return the outcome.

    :param target: a function, or a reference such as ``"myapp.cleanup:purge_old_sessions"``
    :param op_kwargs: those of the step; a key that the callable cannot take fails
    :param params: those of job and run; passed if the callable names them, and in ``ctx.params``
    :param ctx: by default the context of a run ``run_test``
    :param connectors: by default a registry without pools
    :param settings: by default empty
    :param cancel_after: seconds after which the run is cancelled: ``ctx.is_cancelled()`` becomes True, and a coroutine
        gets CancelledError
    :param timeout: seconds after which the step times out; it is stopped in the same way, and is FAILED
    :param environ: variables for ``${NAME}`` in values, in place of this process's; or a source of all references
    :param plugins: modules with hooks, by name, in addition to those of installed distributions
    :raises RuntimeError: if the host's machinery is not installed
    """
    machinery = host_machinery()
    trial = _Trial(machinery=machinery)
    ctx = trial.context(ctx, params or {})
    with _captured(trial.records, ctx.log_level):
        try:
            maker, call = _prepared(
                machinery,
                target,
                op_kwargs=op_kwargs or {},
                params=ctx.params,
                ctx=ctx,
                connectors=connectors or machinery.HostConnectorRegistry(ConnectorSet()),
                settings=settings or Settings(),
                environ=os.environ if environ is None else environ,
                plugins=plugins or {},
            )
        except machinery.PreparationFailed as error:
            return trial.outcome("FAILED", error=error.message, reason_code=error.reason_code)
        return await trial.run(maker, call, cancel_after=cancel_after, timeout=timeout)


def run_callable_sync(target: Callable[..., Any] | str, **options: Any) -> CallableOutcome:
    """Do as `run_callable`, from a test that is a plain function.

    :param options: those of `run_callable`
    """
    return asyncio.run(run_callable(target, **options))


def _prepared(
    machinery: Any,
    target: Callable[..., Any] | str,
    *,
    op_kwargs: Mapping[str, Any],
    params: Mapping[str, Any],
    environ: Values,
    plugins: Mapping[str, Any],
    **given: Any,
) -> tuple[Any, Any]:
    """Return the maker of a call and the call.

    :param given: what the host gives to a callable: ``ctx``, ``connectors`` and ``settings``
    """
    machinery.install_liberty_aliases()
    variables: Mapping[str, str] = os.environ
    sources = environ
    if isinstance(environ, Mapping):
        variables, sources = environ, ProjectSources.of(Path.cwd(), environ=environ)
    hooks = machinery.build_hooks(environ=variables, trace_stream=sys.stderr)
    hooks.add_modules(plugins)
    maker = machinery.CallMaker(hooks=hooks)
    plan = maker.plan(target) if isinstance(target, str) else machinery.plan_for(target, reference=_name_of(target))
    shown = {**params, **op_kwargs}
    try:
        values = resolve_tree(shown, sources)
    except ReferenceMissing as error:
        raise machinery.PreparationFailed(error.reason_code, str(error)) from None
    return maker, maker.prepare(plan, values=values, strict=frozenset(op_kwargs), shown=shown, **given)


def _name_of(target: Any) -> str:
    function = getattr(target, "func", target)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '?')}:{name}"


@dataclass(kw_only=True, slots=True)
class _Trial:
    """Observations made while one callable runs."""

    machinery: Any
    records: list[logging.LogRecord] = field(default_factory=list)
    progress: list[tuple[float, float | None, str]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    reason_code: str = ""

    def context(self, ctx: RunContext | None, params: Mapping[str, Any]) -> RunContext:
        base = ctx or TRIAL
        asked, told = base.cancel_check, base.progress_sink

        def progress(done: float, total: float | None, message: str) -> None:
            self.progress.append((done, total, message))
            told(done, total, message)

        return replace(
            base,
            params={**base.params, **params},
            cancel_check=lambda: self.stop.is_set() or asked(),
            progress_sink=progress,
        )

    def outcome(self, state: str, **rest: Any) -> CallableOutcome:
        return CallableOutcome(state=state, progress=tuple(self.progress), records=tuple(self.records), **rest)

    async def run(
        self,
        maker: Any,
        call: Any,
        *,
        cancel_after: float | None,
        timeout: float | None,  # noqa: ASYNC109 - see above
    ) -> CallableOutcome:
        maker.observe(call.info)
        with self.machinery.unawaited_noted() as forgotten:
            task = asyncio.ensure_future(_awaited(call, self.machinery.AuthorCode))
        loop = asyncio.get_running_loop()
        alarms = [
            loop.call_later(seconds, self._stop, task if call.kind == "async" else None, code)
            for seconds, code in ((cancel_after, "canceled_by_user"), (timeout, "timed_out"))
            if seconds is not None
        ]
        try:
            value, error = await task
        finally:
            for alarm in alarms:
                alarm.cancel()
        if (current := asyncio.current_task()) is not None and current.cancelling():  # the test's own task
            raise asyncio.CancelledError
        if error is not None:
            return self._raised(error)
        try:
            result = maker.normalise(value, call=call.info)
        except (StepFailed, StepCancelled) as refusal:
            return self._raised(refusal, code=getattr(refusal, "reason_code", ""))
        extras = json.loads(result.extras_json) if result.extras_json else {}
        kept = {"rows_affected": result.rows_affected, "extras": extras, "warnings": result.warnings}
        if self.reason_code:
            return self.outcome(self._stopped_state(), reason_code=self.reason_code, **kept)
        if forgotten:
            failed = self.machinery.outcome_of_unawaited(forgotten)
            return self.outcome("FAILED", error=failed.error, reason_code=failed.reason_code)
        return self.outcome("SUCCEEDED", **kept)

    def _stop(self, task: asyncio.Task[Any] | None, reason_code: str) -> None:
        self.reason_code = self.reason_code or reason_code
        self.stop.set()
        if task is not None:
            task.cancel()

    def _stopped_state(self) -> str:
        return "FAILED" if self.reason_code == "timed_out" else "CANCELED"

    def _raised(self, error: BaseException, *, code: str = "") -> CallableOutcome:
        """Return the outcome of an exception.

        :param code: the reason's; empty for that of any exception of its kind
        """
        told = self.machinery.outcome_of_exception(error)
        state = self._stopped_state() if self.reason_code else told.state.value
        reason_code = self.reason_code or code or told.reason_code
        return self.outcome(state, error=told.error, exception=error, reason_code=reason_code)


async def _awaited(call: Any, author_code: Any) -> tuple[Any, BaseException | None]:
    """Return the value or the raised exception; as a task's own, a SystemExit would leave the whole event loop.

    :param author_code: the context that ends a process which the code has forked, once it leaves the code
    """
    if call.kind != "async":
        return await asyncio.to_thread(_called, call, author_code)
    try:
        with author_code():
            return await call.call(), None
    except BaseException as error:  # noqa: BLE001 - a host records whatever a callable raises
        return None, error


def _called(call: Any, author_code: Any) -> tuple[Any, BaseException | None]:
    """Do as `_awaited`, in a thread, so that a traceback has no frames of the pool."""
    try:
        with author_code():
            return call.call(), None
    except BaseException as error:  # noqa: BLE001 - as above
        return None, error


class _Keeper(logging.Handler):
    """Keeps the records of one call, and those of threads that belong to none.

    :param before: the level of the root logger without any call
    """

    def __init__(self, records: list[logging.LogRecord], level: int, before: int) -> None:
        super().__init__(level)
        self.before = before
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        if _KEEPER.get() in (None, self):
            self._records.append(record)


_KEEPER: ContextVar[_Keeper | None] = ContextVar("keeper", default=None)


@contextmanager
def _captured(records: list[logging.LogRecord], level: str) -> Iterator[None]:
    """Keep the records that reach the root logger, from the level of the run's log on."""
    root = logging.getLogger()
    before = next((each.before for each in root.handlers if isinstance(each, _Keeper)), root.level)
    keeper = _Keeper(records, logging.getLevelNamesMapping().get(level, logging.INFO), before)
    token = _KEEPER.set(keeper)
    root.addHandler(keeper)
    root.setLevel(min(root.level, keeper.level))
    try:
        yield
    finally:
        root.removeHandler(keeper)
        root.setLevel(min([before, *(each.level for each in root.handlers if isinstance(each, _Keeper))]))
        _KEEPER.reset(token)
