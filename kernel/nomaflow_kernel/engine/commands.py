"""What goes into the engine and comes out: commands, outcomes, and what it must know of jobs."""

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
    """The engine's clocks and bounds; seconds where not said otherwise.

    :param heartbeat_seconds: how often a host says that it is alive
    :param lease_seconds: silence after which a host gets no new work
    :param grace_seconds: silence after which, plus ``grace_margin_seconds``, attempts are LOST
    :param max_waiting: how many runs may wait in all, before triggers are refused
    """

    heartbeat_seconds: float = 5.0
    lease_seconds: float = 20.0
    grace_seconds: float = 600.0
    grace_margin_seconds: float = 30.0
    max_waiting: int = 1_000_000


@value_class
class TriggerCommand:
    """A wish for one run, already checked for form; whether it fits the job is the engine's to say.

    :param inherited: the job params of the run that calls this one, laid over the job's
    :param params: tagged JSON object laid over the job's params
    :param op_kwargs: step name → tagged JSON object
    :param switches: step name → on or off
    :param request_id: the caller's idempotency key, or empty
    :param request_hash: names the request's content, to tell a repeat from a reuse
    :param allow_overlap: start whatever the job's overlap policy says
    :param at_us: the instant of the fire, microseconds since the epoch; 0 means now
    :param slot: unique name of a cron fire, or empty
    :param reuse: outputs that a replay takes over, as RunRequest keeps them
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
        """Return the layers of the command as the run keeps them."""
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
    """Fires that will not run: one MISSED row, or wider bounds for the one before it.

    :param reason: why they did not run
    """

    job_id: str
    preset: str
    fold: Fold
    reason: Reason


@value_class
class FireCommand:
    """What the scheduler decided in one go: fires to run, fires to record, and the next fires to keep."""

    triggers: tuple[TriggerCommand, ...] = ()
    unrun: tuple[UnrunCommand, ...] = ()
    next_fires: tuple[SetNextFire, ...] = ()


@value_class
class TriggerOutcome:
    """The run that a trigger made or met.

    :param deduplicated: True where the request id or slot was used before by the same request
    :param reason: set for SKIPPED, and for QUEUED where something is known to hold it up
    """

    run_id: str
    state: RunState
    deduplicated: bool = False
    reason: Reason | None = None
    warnings: tuple[str, ...] = ()


@value_class
class ReplayCommand:
    """A wish to do a finished run again, from its snapshot.

    :param from_step: start there and take over the outputs of the steps before; empty for the first
    :param from_failed_step: start at the step that did not succeed
    :param params: laid over the snapshot's run params
    :param op_kwargs: laid over the snapshot's, by step
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

    :param definition: None where the job is malformed
    :param enabled: False where its author switched its schedule off; it can still be run by hand
    :param why_invalid: one sentence, where ``valid`` is False
    :param why_kept: one sentence, where the definition is the last good one and not what the job's file says now
    :param why_held: why a kept job cannot run all the same; it stays on its schedule, and its fires are MISSED
    :param snapshot: digest and JSON of a stored snapshot, where the definition was read from one
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
        """Names the definition; empty where there is none. Worked out when it is first asked for."""
        if self.snapshot is not None:
            return self.snapshot[0]
        return self.definition.digest if self.definition is not None else ""

    @property
    def definition_json(self) -> str:
        """The definition as it is kept as the snapshot of its runs; empty where there is none."""
        if self.snapshot is not None:
            return self.snapshot[1]
        return self.definition.canonical_json if self.definition is not None else ""


class JobSource(Protocol):
    """What the engine asks of the catalogue. Answers come from memory and never block."""

    def job(self, job_id: str) -> KnownJob | None:
        """Return the job, also a malformed or removed one; None where the id is unknown."""

    def near(self, job_id: str) -> Sequence[str]:
        """Return ids that look like an unknown one."""

    def kind_of(self, host: str, callable: str) -> str:
        """Return ``"async"`` or ``"sync"``; ``"async"`` where the callable is unknown."""

    def max_parallel(self, host: str) -> int | None:
        """Return how many steps a host runs at once, over all its instances; None for no bound of that kind."""

    def check_keys(
        self, job: KnownJob, callable: str, keys: Collection[str], given: Collection[str]
    ) -> tuple[str | None, list[str]]:
        """Return why keys of op_kwargs are refused, None where they are not, and a warning for each that is ignored.

        :param given: the keys that all layers give
        """

    def refuse_params(self, job: KnownJob, params: Collection[str], enabled_steps: Collection[str]) -> str | None:
        """Return why a run param cannot be taken: no enabled step's callable takes it. None where all can be."""
