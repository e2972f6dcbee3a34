"""KernelService: the calls of clients, on top of the engine, the catalogue and the store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.message_codec import encode
from nomaflow_api.v1.reason_statuses import STATUS_KEY
from nomaflow_api.version import VERSION
from nomaflow_kernel.access.audited_calls import audit_each
from nomaflow_kernel.access.grants import EVERYTHING, Target, Verb
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.errors import BadRequest, JobUnavailable, KernelError, UnknownJob
from nomaflow_kernel.engine.commands import TriggerCommand, TriggerOutcome
from nomaflow_kernel.rpc.catalogue_calls import CatalogueCalls
from nomaflow_kernel.rpc.failed_calls import status_of
from nomaflow_kernel.rpc.hidden_values import response_without_values
from nomaflow_kernel.rpc.messages import pause_message, planned_values, run_detail_message
from nomaflow_kernel.rpc.numbered_exchanges import ManyCalls
from nomaflow_kernel.rpc.parts import Calls, KernelParts
from nomaflow_kernel.rpc.requests import (
    MAX_BATCH,
    check_run_id,
    pause_record,
    pause_scope,
    person,
    replay_command,
    sentence,
    trigger_command,
)
from nomaflow_kernel.rpc.trigger_checks import Admitted, TriggerChecks
from nomaflow_kernel.rpc.watching import whole_run

_Answer = kernel.TriggerRunResponse | KernelError


class KernelService(Calls):
    """The clients' side of the kernel."""

    def __init__(self, parts: KernelParts, catalogue_calls: CatalogueCalls) -> None:
        super().__init__(parts)
        self._checks = TriggerChecks(parts)
        self._catalogue_calls = catalogue_calls
        self._started_at_us = parts.clock.now_us()
        self.stream_triggers = ManyCalls(answers=partial(self._answers, as_calls=True), takes=self._waits_for_no_host)

    async def get_kernel(self, _request: kernel.GetKernelRequest, caller: Caller) -> kernel.GetKernelResponse:
        """Return the facts about this kernel, and who asks; process and project only if they may operate all of it."""
        principal = caller.principal
        operates = principal.may_all(Verb.OPERATE) or principal.may_all(Verb.ADMIN)
        watches = principal.may_some(Verb.READ)
        settings, info = self._parts.settings.kernel, self._parts.info
        return encode(
            kernel.GetKernelResponse,
            settings,
            info,
            version=VERSION,
            store=info.kind,
            started_at=self._started_at_us,
            grace_seconds=settings.lost_after_seconds,
            pid=os.getpid() if operates else 0,
            # A name may be any bytes, but the wire carries text.
            project=os.fsencode(self._parts.settings.project).decode(errors="backslashreplace") if operates else "",
            last_event_seq=self._parts.feed.last_seq if watches else 0,
            pruned_through_seq=self._store.pruned_through_seq if watches else 0,
            now=self._clock.now_us(),
            trouble=self._parts.health.trouble,
            caller=encode(kernel.Caller, principal, grants=list(map(str, principal.all_grants()))),
        )

    async def trigger_run(self, request: kernel.TriggerRunRequest, caller: Caller) -> kernel.TriggerRunResponse:
        """Start one run, or check whether it would be accepted."""
        (answer,) = await self._answers([request], caller)
        return _accepted(answer)

    async def trigger_runs(self, request: kernel.TriggerRunsRequest, caller: Caller) -> kernel.TriggerRunsResponse:
        """Start many runs in one commit, each item with its own outcome."""
        if len(request.requests) > MAX_BATCH:
            raise BadRequest(
                f"requests has {len(request.requests)} items, expected at most {MAX_BATCH}; send several batches",
                field="requests",
            )
        answers = await self._answers(request.requests, caller)
        for answer in answers:
            if isinstance(answer, kernel.TriggerRunResponse):
                answer.ClearField("steps")  # a thousand of them would not fit into a message
        return kernel.TriggerRunsResponse(items=map(_item_message, answers))

    def _waits_for_no_host(self, request: kernel.TriggerRunRequest) -> bool:
        gives_values = bool(request.params_json or request.step_values)
        return not (request.validate_only or self._checks.concerns(gives_values=gives_values))

    async def _answers(
        self, requests: Sequence[kernel.TriggerRunRequest], caller: Caller, *, as_calls: bool = False
    ) -> list[_Answer]:
        """Return the answer to each request, or the error that refuses it.

        :param as_calls: whether each has a row of its own in the audit, and near ids if its job is unknown
        """
        answers: dict[int, _Answer] = {}
        made: dict[int, TriggerCommand] = {}
        examined: dict[int, TriggerCommand] = {}
        is_owner = caller.principal.is_owner
        for index, request in enumerate(requests):
            refusal = None if is_owner else self._guard.job_refusal(Verb.TRIGGER, request.job_id, caller)
            if refusal is not None:
                answers[index] = refusal
                continue
            try:
                (examined if request.validate_only else made)[index] = trigger_command(request, caller)
            except BadRequest as error:
                answers[index] = error
        if examined:
            validated = await asyncio.gather(*map(self._checks.validate, examined.values()))
            answers.update(zip(examined, map(_examined, validated), strict=True))
        rows = [requests[index] for index in made] if as_calls else None
        answers.update(zip(made, await self._start(list(made.values()), rows), strict=True))
        targets = [self._guard.target_of_job(request.job_id) for request in requests]
        told = [_told(answers[index], target, caller) for index, target in enumerate(targets)]
        return await self._with_near_ids(told, caller, most=len(told) if as_calls else 1)

    async def _with_near_ids(self, answers: list[_Answer], caller: Caller, *, most: int) -> list[_Answer]:
        """Add near ids to the first answers about unknown jobs: a search each, after which others have a turn."""
        unknown = [(index, answer) for index, answer in enumerate(answers) if isinstance(answer, UnknownJob)]
        for index, answer in unknown[:most]:
            answers[index] = self._catalogue_calls.unknown_job(answer.job_id, caller)
            await asyncio.sleep(0)
        return answers

    async def _start(
        self, commands: Sequence[TriggerCommand], rows: Sequence[kernel.TriggerRunRequest] | None = None
    ) -> list[_Answer]:
        """Start runs in one commit, except those that are not admitted.

        :param rows: the request of each, if the audit has a row for each
        """
        admitted = await self._checks.admit(commands)
        if rows is not None:
            audit_each([row for row, one in zip(rows, admitted, strict=True) if not isinstance(one, KernelError)])
        passed = [one[0] for one in admitted if not isinstance(one, KernelError)]
        outcomes = iter(await self._engine.trigger_many(passed) if passed else ())
        return [one if isinstance(one, KernelError) else _answer(next(outcomes), one[1]) for one in admitted]

    async def cancel_run(self, request: kernel.CancelRunRequest, caller: Caller) -> kernel.CancelRunResponse:
        """Request that a run stops, and return its current state."""
        check_run_id(request.run_id)
        await self._engine.cancel(request.run_id, by=person(request.by, caller), why=sentence(request.why, "why"))
        return kernel.CancelRunResponse(run=await self._run(request.run_id, caller))

    async def replay_run(self, request: kernel.ReplayRunRequest, caller: Caller) -> kernel.ReplayRunResponse:
        """Start a run from the snapshot of a finished one."""
        command = replay_command(request, caller)
        if request.validate_only:
            answer = _examined(await self._checks.validate(command))
        else:
            (answer,) = await self._start([command])
        if not caller.principal.may_all(Verb.LOGS):
            for target in await self._guard.targets_of_replay(request.run_id) or (EVERYTHING,):
                answer = _told(answer, target, caller)
        return encode(kernel.ReplayRunResponse, _accepted(answer))

    async def get_run(self, request: kernel.GetRunRequest, caller: Caller) -> kernel.GetRunResponse:
        """Return one run with its steps and attempts."""
        check_run_id(request.run_id)
        return kernel.GetRunResponse(run=await self._run(request.run_id, caller))

    async def pause(self, request: kernel.PauseRequest, caller: Caller) -> kernel.PauseResponse:
        """Stop fires and starts of a job, a host or everything."""
        pause = pause_record(request, caller, now_us=self._clock.now_us())
        self._catalogue_calls.check_known(pause.scope, pause.name, caller)
        await self._engine.set_pause(pause)
        return kernel.PauseResponse(pause=pause_message(pause))

    async def resume(self, request: kernel.ResumeRequest, caller: Caller) -> kernel.ResumeResponse:
        """End a pause."""
        scope, name = pause_scope(request)
        was_paused = await self._engine.clear_pause(scope, name, by=person(request.by, caller))
        if not was_paused:
            self._catalogue_calls.check_known(scope, name, caller)
        return kernel.ResumeResponse(was_paused=was_paused)

    async def _run(self, run_id: str, caller: Caller) -> run_pb2.Run:
        (run,) = await self._sight.shown([run_detail_message(*await whole_run(self._store, run_id))], caller)
        return run


def _answer(outcome: TriggerOutcome | KernelError, warnings: Sequence[str]) -> _Answer:
    """Return the answer to a trigger, with the warnings of its checks."""
    if isinstance(outcome, KernelError):
        return outcome
    return encode(kernel.TriggerRunResponse, outcome, warnings=(*warnings, *outcome.warnings), steps=())


def _examined(found: Admitted | KernelError) -> _Answer:
    """Return the answer to a request that is only validated: its warnings, and what each step would get."""
    if isinstance(found, KernelError):
        return found
    command, warnings = found
    steps = [] if command.draft is None else planned_values(command.draft)
    return kernel.TriggerRunResponse(warnings=warnings, steps=steps)


def _told(answer: _Answer, target: Target, caller: Caller) -> _Answer:
    """Return an answer as its caller may see it: warnings and refusals may quote a file, or an exception.

    :param target: the job, or the run that is replayed
    """
    if caller.principal.may(Verb.LOGS, target):
        return answer
    if isinstance(answer, JobUnavailable):
        return JobUnavailable(answer.job_id, "it has problems, which the grant `logs` shows")
    if isinstance(answer, kernel.TriggerRunResponse):
        response_without_values(answer)
    return answer


def _accepted(answer: _Answer) -> kernel.TriggerRunResponse:
    if isinstance(answer, KernelError):
        raise answer
    return answer


def _item_message(outcome: _Answer) -> kernel.TriggerRunsItem:
    if isinstance(outcome, kernel.TriggerRunResponse):
        return kernel.TriggerRunsItem(response=outcome)
    return kernel.TriggerRunsItem(status=dict(status_of(outcome).trailing)[STATUS_KEY])
