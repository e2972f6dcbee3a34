"""InspectAttempt: a question to the host that runs an attempt. Its answer is bounded, and nothing in it is trusted."""

from __future__ import annotations

import asyncio

from nomaflow_api.bounds import in_range
from nomaflow_api.v1.attempt_inspection_pb2 import InspectAttemptRequest, InspectAttemptResponse
from nomaflow_api.v1.message_codec import timestamp
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.history.ids import attempt_key
from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.records import AttemptRecord
from nomaflow_kernel.history.states import ATTEMPT_TERMINAL, AttemptState
from nomaflow_kernel.hosts.errors import HostNotAttached
from nomaflow_kernel.rpc.parts import Calls
from nomaflow_kernel.rpc.requests import check_name, check_run_id
from nomaflow_kernel.rpc.watching import read_run

_ANSWER_SECONDS = 5.0
_PROCESSES = 100
_STACKS = 100
_FRAMES = 60
_TEXT = 500


class InspectCalls(Calls):
    """Serves InspectAttempt."""

    async def inspect_attempt(self, request: InspectAttemptRequest, _caller: Caller) -> InspectAttemptResponse:
        """Return what the host of a running attempt sees of it, or a note that the host did not answer.

        :raises BadRequest: if the run has no such step
        :raises KernelError: if no code of the attempt runs
        :raises HostNotAttached: if its host is away
        """
        check_run_id(request.run_id)
        check_name(request.step, "step")
        attempt = _wanted(await read_run(self._store, request.run_id, step=request.step), request)
        key = attempt_key(attempt.run_id, attempt.step, attempt.attempt)
        session = self._sessions.of_instance(attempt.host, attempt.incarnation)
        if session is None:
            raise HostNotAttached(attempt.host)
        response = InspectAttemptResponse()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await session.inspect(key)
        except TimeoutError:
            response.note = f"host {attempt.host!r} did not answer within {_ANSWER_SECONDS:g} s"
        else:
            if not answer.found:
                raise _nothing_runs(request.run_id, f"step {attempt.step!r} has ended, or has not arrived yet")
            response.CopyFrom(_bounded(answer.response))
        response.attempt_key, response.host = key, attempt.host
        if not response.HasField("seen_at"):
            response.seen_at.CopyFrom(timestamp(self._clock.now_us()))
        return response


def _wanted(detail: RunDetail, request: InspectAttemptRequest) -> AttemptRecord:
    """Return the attempt that a request names, whose code runs."""
    tries = [
        attempt
        for attempt in detail.attempts
        if request.step in ("", attempt.step) and request.attempt in (0, attempt.attempt)
    ]
    if not tries:
        raise _nothing_runs(request.run_id, f"it is {detail.run.state}, and there is no such try")
    # A run has at most one try that is not over.
    found = next((each for each in tries if each.state not in ATTEMPT_TERMINAL), tries[-1])
    if found.state not in (AttemptState.DISPATCHED, AttemptState.RUNNING):
        raise _nothing_runs(request.run_id, f"try {found.attempt} of step {found.step!r} is {found.state}")
    if found.child_run_id:
        raise _nothing_runs(request.run_id, f"step {found.step!r} waits for run {found.child_run_id}; inspect that")
    return found


def _nothing_runs(run_id: str, why: str) -> KernelError:
    return KernelError(f"nothing of run {run_id} can be inspected: {why}", reason="ATTEMPT_NOT_RUNNING")


def _bounded(told: InspectAttemptResponse) -> InspectAttemptResponse:
    """Return a host's answer, cut to what the message promises."""
    del told.processes[_PROCESSES:], told.stacks[_STACKS:]
    for process in told.processes:
        process.command, process.state = process.command[:_TEXT], process.state[:8]
    for stack in told.stacks:
        stack.name = stack.name[:_TEXT]
        kept = [frame[:_TEXT] for frame in stack.frames[-_FRAMES:]]
        del stack.frames[:]
        stack.frames.extend(kept)
    told.note = told.note[:_TEXT]
    if not in_range(told.seen_at.seconds * 1_000_000):
        told.ClearField("seen_at")
    return told
