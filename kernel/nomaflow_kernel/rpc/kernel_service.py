"""KernelService: the calls of clients, on top of the engine, the catalogue and the store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.domain.errors import BadRequest, KernelError, UnknownRun
from nomaflow_kernel.engine import Engine, TriggerCommand, TriggerOutcome
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.port import Store
from nomaflow_kernel.rpc.access import Caller
from nomaflow_kernel.rpc.admission import Admission
from nomaflow_kernel.rpc.catalogue_calls import CatalogueCalls
from nomaflow_kernel.rpc.errors import error_row
from nomaflow_kernel.rpc.job_messages import pause_message
from nomaflow_kernel.rpc.log_reading import LogQuery, LogReading
from nomaflow_kernel.rpc.requests import (
    MAX_BATCH,
    check_run_id,
    pause_record,
    pause_scope,
    person,
    read_page_token,
    replay_command,
    run_filter,
    sentence,
    trigger_command,
    write_page_token,
)
from nomaflow_kernel.rpc.run_messages import (
    reason_message,
    run_detail_message,
    run_message,
    run_state_number,
    timestamp,
)
from nomaflow_kernel.rpc.watching import Watching

__all__ = ["KernelIdentity", "KernelService"]

_PAGE_SIZE = 50
_MAX_PAGE_SIZE = 500
_MAX_TAIL = 10_000
_MAX_SEQ = 2**53


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelIdentity:
    """Facts about a kernel.

    :param store: ``sqlite`` or ``postgresql``
    :param store_id: identifies the history
    :param project: the directory it was started with
    """

    version: str
    epoch: int
    store: str
    started_at_us: int
    project: str = ""
    store_id: str = ""


class KernelService:
    """The clients' side of the kernel."""

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        feed: EventFeed,
        clock: Clock,
        admission: Admission,
        catalogue_calls: CatalogueCalls,
        identity: KernelIdentity,
    ) -> None:
        self._engine = engine
        self._store = store
        self._feed = feed
        self._clock = clock
        self._admission = admission
        self._catalogue_calls = catalogue_calls
        self._identity = identity
        self._watching = Watching(store=store, feed=feed, explain=self._explain)
        self._logs = LogReading(store=store, feed=feed)

    def methods(self) -> Mapping[str, Callable[..., Any]]:
        """Return the method that serves each rpc of the service."""
        return {
            "GetKernel": self.get_kernel,
            "TriggerRun": self.trigger_run,
            "TriggerRuns": self.trigger_runs,
            "CancelRun": self.cancel_run,
            "ReplayRun": self.replay_run,
            "GetRun": self.get_run,
            "ListRuns": self.list_runs,
            "WatchRun": self.watch_run,
            "WatchEvents": self.watch_events,
            "ReadLogs": self.read_logs,
            "Pause": self.pause,
            "Resume": self.resume,
            **self._catalogue_calls.methods(),
        }

    async def get_kernel(self, _request: kernel.GetKernelRequest, _caller: Caller) -> kernel.GetKernelResponse:
        """Return the facts about this kernel."""
        return kernel.GetKernelResponse(
            version=self._identity.version,
            epoch=self._identity.epoch,
            pid=os.getpid(),
            store=self._identity.store,
            started_at=timestamp(self._identity.started_at_us),
            project=self._identity.project,
            last_event_seq=self._feed.last_seq,
            store_id=self._identity.store_id,
            pruned_through_seq=self._store.pruned_through_seq,
        )

    async def trigger_run(self, request: kernel.TriggerRunRequest, caller: Caller) -> kernel.TriggerRunResponse:
        """Start one run, or check whether it would be accepted."""
        command = trigger_command(request, caller)
        if request.validate_only:
            answer = await self._validated(command)
            if isinstance(answer, KernelError):
                raise answer
            return answer
        # Most triggers give no values, to hosts that neither watch nor load: these wait for nothing but the engine.
        command, warnings = await self._admission.admit(command) if self._admission.concerns(command) else (command, ())
        return _outcome_message(await self._engine.trigger(command), warnings)

    async def trigger_runs(self, request: kernel.TriggerRunsRequest, caller: Caller) -> kernel.TriggerRunsResponse:
        """Start many runs, each item with its own outcome."""
        if len(request.requests) > MAX_BATCH:
            raise BadRequest(
                f"requests has {len(request.requests)} items, expected at most {MAX_BATCH}; send several batches",
                field="requests",
            )
        read = [_command_or_refusal(item, caller) for item in request.requests]
        made: list[TriggerCommand] = []
        examined: list[TriggerCommand] = []
        for item, command in zip(request.requests, read, strict=True):
            if isinstance(command, TriggerCommand):
                (examined if item.validate_only else made).append(command)
        validated = iter(await asyncio.gather(*map(self._validated, examined)))
        accepted = iter(await self._trigger_many(made) if made else ())
        answers = [
            command if isinstance(command, KernelError) else next(validated if item.validate_only else accepted)
            for item, command in zip(request.requests, read, strict=True)
        ]
        return kernel.TriggerRunsResponse(items=map(_item_message, answers))

    async def _validated(self, command: TriggerCommand) -> kernel.TriggerRunResponse | KernelError:
        """Return the result that a trigger would have; no run is created."""
        try:
            return kernel.TriggerRunResponse(warnings=await self._admission.validate(command))
        except KernelError as error:
            return error

    async def _trigger_many(
        self, commands: Sequence[TriggerCommand]
    ) -> Sequence[kernel.TriggerRunResponse | KernelError]:
        """Start runs in one commit, except those that are not admitted."""
        if not any(map(self._admission.concerns, commands)):
            return [_outcome_of(outcome) for outcome in await self._engine.trigger_many(commands)]
        admitted = await self._admission.admit_many(commands)
        passed = [one[0] for one in admitted if not isinstance(one, KernelError)]
        outcomes = iter(await self._engine.trigger_many(passed) if passed else ())
        return [one if isinstance(one, KernelError) else _outcome_of(next(outcomes), one[1]) for one in admitted]

    async def cancel_run(self, request: kernel.CancelRunRequest, caller: Caller) -> kernel.CancelRunResponse:
        """Request that a run stops, and return its current state."""
        check_run_id(request.run_id)
        await self._engine.cancel(request.run_id, by=person(request.by, caller), why=sentence(request.why, "why"))
        return kernel.CancelRunResponse(run=await self._run(request.run_id))

    async def replay_run(self, request: kernel.ReplayRunRequest, caller: Caller) -> kernel.ReplayRunResponse:
        """Start a run from the snapshot of a finished one."""
        command = replay_command(request, caller)
        if self._admission.concerns(command):
            command, _ = await self._admission.admit(command)
        return kernel.ReplayRunResponse(run_id=(await self._engine.trigger(command)).run_id)

    async def get_run(self, request: kernel.GetRunRequest, _caller: Caller) -> kernel.GetRunResponse:
        """Return one run with its steps and attempts."""
        check_run_id(request.run_id)
        return kernel.GetRunResponse(run=await self._run(request.run_id))

    async def list_runs(self, request: kernel.ListRunsRequest, _caller: Caller) -> kernel.ListRunsResponse:
        """Return one page of runs, newest first."""
        if request.page_size > _MAX_PAGE_SIZE:
            raise BadRequest(f"page_size is {request.page_size}, expected at most {_MAX_PAGE_SIZE}", field="page_size")
        page = await self._store.list_runs(
            run_filter(request),
            before=read_page_token(request.page_token),
            limit=request.page_size or _PAGE_SIZE,
        )
        return kernel.ListRunsResponse(
            runs=[self._explain(run_message(run)) for run in page.runs],
            next_page_token=write_page_token(page.next_before),
        )

    def watch_run(self, request: kernel.WatchRunRequest, _caller: Caller) -> AsyncIterator[kernel.WatchRunResponse]:
        """Yield the run as it is, then its events until it is terminal."""
        check_run_id(request.run_id)
        return self._watching.run(request.run_id, _seq(request.after_seq))

    def watch_events(
        self, request: kernel.WatchEventsRequest, _caller: Caller
    ) -> AsyncIterator[kernel.WatchEventsResponse]:
        """Yield all events, endlessly."""
        if request.from_start and request.after_seq:
            raise BadRequest("from_start and after_seq are both set, expected one of them", field="from_start")
        if len(request.kinds) > 64 or any(len(kind) > 64 for kind in request.kinds):
            raise BadRequest("kinds has more than 64 items, or one of more than 64 characters", field="kinds")
        after = _seq(request.after_seq) if request.after_seq or request.from_start else None
        return self._watching.events(after, tuple(request.kinds))

    def read_logs(self, request: kernel.ReadLogsRequest, _caller: Caller) -> AsyncIterator[kernel.ReadLogsResponse]:
        """Yield the lines of a run's log."""
        check_run_id(request.run_id)
        if request.tail > _MAX_TAIL:
            raise BadRequest(f"tail is {request.tail}, expected at most {_MAX_TAIL}", field="tail")
        return self._logs.read(
            LogQuery(
                run_id=request.run_id,
                after_seq=_seq(request.after_seq),
                step=request.step,
                min_level=request.min_level,
                follow=request.follow,
                tail=request.tail,
            )
        )

    async def pause(self, request: kernel.PauseRequest, caller: Caller) -> kernel.PauseResponse:
        """Stop fires and starts of a job, a host or everything."""
        pause = pause_record(request, caller, now_us=self._clock.now_us())
        self._catalogue_calls.check_known(pause.scope, pause.name)
        await self._engine.set_pause(pause)
        return kernel.PauseResponse(pause=pause_message(pause))

    async def resume(self, request: kernel.ResumeRequest, _caller: Caller) -> kernel.ResumeResponse:
        """End a pause."""
        scope, name = pause_scope(request.job_id, request.host)
        was_paused = await self._engine.clear_pause(scope, name)
        if not was_paused:
            self._catalogue_calls.check_known(scope, name)
        return kernel.ResumeResponse(was_paused=was_paused)

    async def _run(self, run_id: str) -> Any:
        found = await self._store.run_details([run_id])
        if not found:
            raise UnknownRun(run_id)
        return self._explain(run_detail_message(found[0]))

    def _explain(self, run: run_pb2.Run) -> run_pb2.Run:
        """Return the run, with its current reason for waiting if it is not over: only the engine knows it."""
        if run.state in (run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_RUNNING):
            reason = self._engine.holdup(run.run_id)
            if reason is not None:
                run.reason.CopyFrom(run_pb2.Reason(code=reason.code, message=reason.message))
        return run


def _command_or_refusal(item: kernel.TriggerRunRequest, caller: Caller) -> TriggerCommand | BadRequest:
    try:
        return trigger_command(item, caller)
    except BadRequest as error:
        return error


def _outcome_of(
    outcome: TriggerOutcome | KernelError, warnings: Sequence[str] = ()
) -> kernel.TriggerRunResponse | KernelError:
    return _outcome_message(outcome, warnings) if isinstance(outcome, TriggerOutcome) else outcome


def _outcome_message(outcome: TriggerOutcome, warnings: Sequence[str] = ()) -> kernel.TriggerRunResponse:
    return kernel.TriggerRunResponse(
        run_id=outcome.run_id,
        deduplicated=outcome.deduplicated,
        state=run_state_number(outcome.state),
        reason=reason_message(outcome.reason),
        warnings=(*warnings, *outcome.warnings),
    )


def _item_message(outcome: kernel.TriggerRunResponse | KernelError) -> kernel.TriggerRunsItem:
    if isinstance(outcome, kernel.TriggerRunResponse):
        return kernel.TriggerRunsItem(response=outcome)
    row = error_row(outcome)
    code, _ = row.code.value
    return kernel.TriggerRunsItem(error=kernel.CallError(code=code, reason=row.reason, message=outcome.message))


def _seq(value: int) -> int:
    return min(value, _MAX_SEQ)
