"""Inputs and outputs of the engine: commands, outcomes, and the facts it needs about jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from nomaflow_api.value_class import value_class
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import Ancestor, Fold, RunRequest, TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.history.transitions import SetNextFire
from nomaflow_project.jobs.definitions import JobDefinition

__all__ = [
    "EngineSettings",
    "FireCommand",
    "JobSource",
    "KnownJob",
    "ReplayCommand",
    "TriggerCommand",
    "TriggerOutcome",
    "UnrunCommand",
]


@value_class
class EngineSettings:
    """The engine's time limits and bounds, in seconds unless stated otherwise.

    :param heartbeat_seconds: interval of a host's heartbeats
    :param lease_seconds: silence after which a host gets no new work
    :param grace_seconds: silence after which, plus ``grace_margin_seconds``, attempts are LOST
    :param max_waiting: number of waiting runs at which triggers are refused
    """

    heartbeat_seconds: float = 5.0
    lease_seconds: float = 20.0
    grace_seconds: float = 600.0
    grace_margin_seconds: float = 30.0
    max_waiting: int = 1_000_000


@value_class
class TriggerCommand:
    """A request for one run, already checked for form; the engine checks whether it fits the job.

    :param inherited: the job params of the run that calls this one, laid over the job's
    :param params: tagged JSON object laid over the job's params
    :param op_kwargs: step name → tagged JSON object
    :param switches: step name → on or off
    :param request_id: the caller's idempotency key, or empty
    :param request_hash: identifies the request's content, to tell a repeat from a reuse
    :param allow_overlap: start regardless of the job's overlap policy
    :param at_us: the instant of the fire, microseconds since the epoch; 0 means now
    :param slot: unique name of a cron fire, or empty
    :param reuse: outputs that a replay reuses, in the form of RunRequest
    :param replay_of: the run that is replayed, or empty
    :param traceparent: the caller's place in a trace, or empty
    """

    job_id: str
    kind: TriggerKind
    inherited: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    op_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    switches: Mapping[str, bool] = field(default_factory=dict)
    preset: str = ""
    log_level: str = ""
    by: str = ""
    request_id: str = ""
    request_hash: str = ""
    allow_overlap: bool = False
    at_us: int = 0
    slot: str = ""
    parent_chain: tuple[Ancestor, ...] = ()
    reuse: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    replay_of: str = ""
    traceparent: str = ""

    def request(self) -> RunRequest:
        """Return the layers of the command in the form that the run keeps."""
        return RunRequest(
            inherited=self.inherited,
            params=self.params,
            op_kwargs=self.op_kwargs,
            switches=self.switches,
            preset=self.preset,
            log_level=self.log_level,
            allow_overlap=self.allow_overlap,
            reuse=self.reuse,
            traceparent=self.traceparent,
        )


@value_class
class UnrunCommand:
    """Fires that will not run: one new MISSED row, or a wider range for the row before it.

    :param reason: why they did not run
    """

    job_id: str
    preset: str
    fold: Fold
    reason: Reason


@value_class
class FireCommand:
    """The scheduler's decisions of one round: fires to run, fires to record, and the next fires to store."""

    triggers: tuple[TriggerCommand, ...] = ()
    unrun: tuple[UnrunCommand, ...] = ()
    next_fires: tuple[SetNextFire, ...] = ()


@value_class
class TriggerOutcome:
    """The run that a trigger created or found.

    :param deduplicated: True if the request id or slot was used before by the same request
    :param reason: set for SKIPPED, and for QUEUED if a cause for waiting is known
    """

    run_id: str
    state: RunState
    deduplicated: bool = False
    reason: Reason | None = None
    warnings: tuple[str, ...] = ()


@value_class
class ReplayCommand:
    """A request to run a finished run again, from its snapshot.

    :param from_step: start there and reuse the outputs of earlier steps; empty for the first
    :param from_failed_step: start at the step that did not succeed
    :param params: laid over the snapshot's run params
    :param op_kwargs: laid over the snapshot's op_kwargs, by step
    """

    run_id: str
    from_step: str = ""
    from_failed_step: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    op_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by: str = ""
    request_id: str = ""
    request_hash: str = ""
    traceparent: str = ""


@value_class
class KnownJob:
    """A job of the catalogue as the engine needs it.

    :param definition: None if the job is malformed
    :param enabled: False if its author switched its schedule off; it can still be run by hand
    :param why_invalid: one sentence, set if ``valid`` is False
    :param why_kept: one sentence, if the definition is the last good one and not the one in the job's file
    :param why_held: why a kept job cannot run anyway; it stays on its schedule, and its fires are MISSED
    :param snapshot: digest and JSON of the stored snapshot that the definition was read from
    """

    job_id: str
    host: str
    definition: JobDefinition | None
    valid: bool
    removed: bool = False
    enabled: bool = True
    why_invalid: str = ""
    why_kept: str = ""
    why_held: str = ""
    snapshot: tuple[str, str] | None = None

    @property
    def digest(self) -> str:
        """The digest of the definition; empty if there is none. It is computed on first use."""
        if self.snapshot is not None:
            return self.snapshot[0]
        return self.definition.digest if self.definition is not None else ""

    @property
    def definition_json(self) -> str:
        """The definition as stored in the snapshot of its runs; empty if there is none."""
        if self.snapshot is not None:
            return self.snapshot[1]
        return self.definition.canonical_json if self.definition is not None else ""


class JobSource(Protocol):
    """The part of the catalogue that the engine uses. Answers come from memory and never block."""

    def job(self, job_id: str) -> KnownJob | None:
        """Return the job, even a malformed or removed one; None if the id is unknown."""

    def near(self, job_id: str) -> Sequence[str]:
        """Return known ids that look like an unknown one."""

    def kind_of(self, host: str, callable: str) -> str:
        """Return ``"async"`` or ``"sync"``; ``"async"`` if the callable is unknown."""

    def max_parallel(self, host: str) -> int | None:
        """Return how many steps a host runs at once, over all its instances; None for no such limit."""

    def check_keys(
        self, job: KnownJob, callable: str, keys: Collection[str], given: Collection[str]
    ) -> tuple[str | None, list[str]]:
        """Return why keys of op_kwargs are refused, or None, and a warning for each key that is ignored.

        :param given: all keys given, over all layers
        """

    def refuse_params(self, job: KnownJob, params: Collection[str], enabled_steps: Collection[str]) -> str | None:
        """Return why a run param is refused: no enabled step's callable takes it. None if all are accepted."""
