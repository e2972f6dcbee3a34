"""Recognise a repeated request: its id stands for the run that the first one made, in memory or in the store."""

from __future__ import annotations

from collections.abc import Sequence

from nomaflow_kernel.domain.errors import KernelError, RequestIdReused
from nomaflow_kernel.engine.commands import TriggerCommand, TriggerOutcome
from nomaflow_kernel.engine.state import EngineState
from nomaflow_kernel.history.port import ApplyResult
from nomaflow_project.jobs.definitions import Overlap

__all__ = [
    "is_remembered",
    "must_look_up",
    "refused_for_duplicates",
    "refused_unasked",
    "repeated",
    "settle_duplicates",
]


def repeated(state: EngineState, command: TriggerCommand) -> TriggerOutcome | None:
    """Return the outcome of the earlier, same request if it is remembered.

    :raises RequestIdReused: if the request id was used for another request
    """
    if not command.request_id:
        return None
    used = state.request_ids.get(command.request_id)
    if used is None:
        return None
    if used.request_hash != command.request_hash:
        raise RequestIdReused(command.request_id, used.run_id)
    return TriggerOutcome(run_id=used.run_id, state=used.state, deduplicated=True)


def must_look_up(state: EngineState, command: TriggerCommand) -> bool:
    """Return whether the store must be asked for the request id before deciding.

    If the request were a repeat, treating it as new until the commit would cancel other runs, run what a call_job step
    calls, or make other requests of the turn wait or be skipped for a run that never exists.
    """
    if not command.request_id or is_remembered(state, command):
        return False
    if command.replay_of:
        return True  # it runs its snapshot, whatever the job is today
    job = state.jobs.job(command.job_id)
    if job is None or job.definition is None:
        return False  # it is refused, and looked up before the refusal is sent
    return job.definition.overlap is not Overlap.ALLOW or any(step.target_job_id for step in job.definition.steps)


def is_remembered(state: EngineState, command: TriggerCommand) -> bool:
    """Return whether the meaning of the request id is known without asking the store."""
    return command.request_id in state.request_ids


def refused_unasked(
    state: EngineState, commands: Sequence[TriggerCommand], outcomes: Sequence[TriggerOutcome | KernelError]
) -> list[int]:
    """Return the indices of requests refused before the store was asked for their id."""
    return [
        index
        for index, (command, outcome) in enumerate(zip(commands, outcomes, strict=True))
        if isinstance(outcome, KernelError) and command.request_id and not is_remembered(state, command)
    ]


def settle_duplicates(
    state: EngineState,
    result: ApplyResult,
    commands: Sequence[TriggerCommand],
    outcomes: list[TriggerOutcome | KernelError],
) -> None:
    """Replace the outcome of each run whose request id or slot turned out to be taken, in place.

    The run of the request id is remembered again: the run that was created for it does not exist.
    """
    if not result.duplicates:
        return
    for index, (command, outcome) in enumerate(zip(commands, outcomes, strict=True)):
        duplicate = result.duplicates.get(outcome.run_id) if isinstance(outcome, TriggerOutcome) else None
        if duplicate is None:
            continue
        state.request_ids.pop(command.request_id)
        if duplicate.same_request:
            outcomes[index] = TriggerOutcome(
                run_id=duplicate.existing_run_id, state=duplicate.existing_state, deduplicated=True
            )
        else:
            outcomes[index] = RequestIdReused(command.request_id, duplicate.existing_run_id)


def refused_for_duplicates(result: ApplyResult, outcomes: Sequence[TriggerOutcome | KernelError]) -> list[int]:
    """Return the indices of requests refused because of a run of the same batch that turned out to be a duplicate.

    Only the store can tell which run their request id belongs to.
    """
    return [
        index
        for index, outcome in enumerate(outcomes)
        if isinstance(outcome, RequestIdReused) and outcome.run_id in result.duplicates
    ]
