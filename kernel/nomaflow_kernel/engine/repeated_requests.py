"""Recognise a repeated request: its id stands for the run that the first one made, in memory or in the store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from nomaflow_kernel.domain.errors import KernelError, RequestIdReused
from nomaflow_kernel.engine import triggering
from nomaflow_kernel.engine.commands import TriggerCommand, TriggerOutcome
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.history.lookups import ApplyResult
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.sql_store import Store
from nomaflow_project.jobs.definitions import Overlap

Decided = dict[int, TriggerOutcome | KernelError | None]
"""Index of a command → what became of it; None if the store must be asked first whether it is a repeat."""


async def look_up(state: EngineState, store: Store, commands: Iterable[TriggerCommand]) -> frozenset[str]:
    """Look up the runs that the commands' request ids stand for; return the ids whose meaning is known now."""
    ids = frozenset(each.request_id for each in commands if each.request_id)
    unknown = [each for each in ids if each not in state.request_ids]
    for request_id, found in (await store.runs_of_requests(unknown) if unknown else {}).items():
        state.request_ids.put(request_id, found)
    return ids


def must_look_up(state: EngineState, command: TriggerCommand) -> bool:
    """Return whether the store must be asked for the request id before deciding.

    If the request were a repeat, treating it as new until the commit would cancel other runs, run what a call_job step
    calls, or make other requests of the turn wait or be skipped for a run that never exists.
    """
    if not command.request_id or command.request_id in state.request_ids:
        return False
    if command.replay_of:
        return True  # it runs its snapshot, whatever the job is today
    job = state.jobs.definition(command.job_id)
    if job is None:
        return False  # it is refused, and looked up before the refusal is sent
    return job.overlap is not Overlap.ALLOW or any(step.target_job_id for step in job.steps)


def trigger_once(
    state: EngineState, batch: Batch, command: TriggerCommand, looked_up: Collection[str]
) -> TriggerOutcome | KernelError | None:
    """Create a run for a command, or find the one that it created before, whatever happened to the job since.

    :param looked_up: request ids that the store was asked for
    :returns: None if the answer depends on whether the command is a repeat, and only the store knows that
    """
    new = not command.request_id or command.request_id in looked_up
    try:
        used = state.request_ids.find(command.request_id) if command.request_id else None
        if used is not None:
            if used.request_hash != command.request_hash and not state.secrets.is_keyed(
                used.request_hash, command.request_hash
            ):
                sent = command.request_id.removeprefix(f"{command.author}/" if command.author else "")
                raise RequestIdReused(sent, used.run_id)
            accepted = RunState.SKIPPED if used.state is RunState.SKIPPED else RunState.QUEUED
            return TriggerOutcome(run_id=used.run_id, state=accepted, deduplicated=True)
        return triggering.trigger(state, batch, command) if new or not must_look_up(state, command) else None
    except KernelError as error:
        return error if new else None


def runs_made(decided: Decided) -> Mapping[int, str] | None:
    """Return the run that each command has created, of those that have; None if there are none."""
    outcomes = decided.items()
    return {
        n: each.run_id for n, each in outcomes if isinstance(each, TriggerOutcome) and not each.deduplicated
    } or None


def settle(state: EngineState, commands: Mapping[int, TriggerCommand], result: ApplyResult, decided: Decided) -> None:
    """Have the store asked about commands whose answer names a run that turned out to be a duplicate."""
    for index, outcome in decided.items() if result.duplicates else ():
        if isinstance(outcome, TriggerOutcome) and outcome.run_id in result.duplicates:
            state.request_ids.pop(commands[index].request_id, None)
            decided[index] = None
