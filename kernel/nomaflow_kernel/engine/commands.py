"""Inputs and outputs of the engine: commands, drafts and outcomes."""

from __future__ import annotations

from msgspec import Struct

from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.engine.run_plan import RunPlan
from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import Ancestor, Fold, RunRequest, TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_project.jobs.definitions import JobDefinition


class Draft(Struct, frozen=True, kw_only=True):
    """A run as a command would create it: the snapshot of its job, its layers, and its plan.

    :param job: the job of the catalogue that it was made from; None for a replay, which has a snapshot of its own
    :param host: the host that runs it
    :param digest: identifies the snapshot
    :param definition_json: the snapshot as it is stored
    :param plan: empty for fires that are only recorded
    """

    job: Job | None
    job_id: str
    host: str
    definition: JobDefinition
    digest: str
    definition_json: str
    request: RunRequest
    plan: RunPlan


class TriggerCommand(Struct, frozen=True, kw_only=True):
    """A request for one run, already checked for form; the engine checks whether it fits the job.

    :param job_id: empty for a replay
    :param request: the layers that the run lays over its job; a replay lays them over those of the replayed run
    :param secret_keys: params that must be kept secret; the job has to say so of each
    :param author: the user or service whose waiting runs it counts to; empty for the owner, schedules and calling runs
    :param request_id: the caller's idempotency key, or empty
    :param request_hash: identifies the request's content, to tell a repeat from a reuse
    :param at_us: the instant of the fire, microseconds since the epoch; 0 means now
    :param slot: unique name of a cron fire, or empty
    :param replay_of: the finished run to run again from its snapshot, or empty
    :param from_step: the step that a replay starts at, with the outputs of the steps before; empty for the first
    :param from_failed_step: whether a replay starts at the step that did not succeed
    :param current_definition: whether a replay runs the job as it is defined now instead of as it was
    :param replayed: the run to replay as stored; the engine reads it
    :param draft: what the command was found to mean before it came to the engine; made again if the job has changed
    """

    job_id: str
    kind: TriggerKind
    request: RunRequest = RunRequest()
    secret_keys: tuple[str, ...] = ()
    by: str = ""
    author: str = ""
    request_id: str = ""
    request_hash: str = ""
    at_us: int = 0
    slot: str = ""
    parent_chain: tuple[Ancestor, ...] = ()
    replay_of: str = ""
    from_step: str = ""
    from_failed_step: bool = False
    current_definition: bool = False
    replayed: RunDetail | None = None
    draft: Draft | None = None


class UnrunCommand(Struct, frozen=True, kw_only=True):
    """Fires that will not run: one new MISSED row, or a wider range for the row before it.

    :param reason: why they did not run
    """

    job_id: str
    preset: str
    fold: Fold
    reason: Reason


class TriggerOutcome(Struct, frozen=True, kw_only=True):
    """The run that a trigger created or found.

    :param deduplicated: True if the request id or slot was used before by the same request
    :param reason: set for SKIPPED
    """

    run_id: str
    state: RunState
    deduplicated: bool = False
    reason: Reason | None = None
    warnings: tuple[str, ...] = ()
