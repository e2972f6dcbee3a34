"""A run in memory: its plan, its position, and its current attempt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from nomaflow_kernel.engine.host_messages import InstanceKey
from nomaflow_kernel.engine.run_plan import PlannedStep, RunPlan, plan_run
from nomaflow_kernel.history.attempt_facts import NO_FACTS, AttemptFacts
from nomaflow_kernel.history.ids import attempt_key
from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import PREVIOUS_STEPS_BYTES, AttemptRecord, CancelRequest, RunRecord
from nomaflow_kernel.history.states import ATTEMPT_TERMINAL, AttemptState
from nomaflow_project.jobs.definitions import JobDefinition

_quoted = lru_cache(maxsize=1024)(json.dumps)  # step names, the same in every run


@dataclass(kw_only=True, slots=True)
class CurrentAttempt:
    """The current attempt of a run. A run has at most one that is not terminal.

    :param opened: whether its row exists: a call_job step that is about to start has none yet
    :param tries: attempts at this step that count for the retry policy, this one included
    :param report_seq: highest contiguous event number received
    :param not_before_us: when a PENDING attempt may be dispatched
    :param due: the same in monotonic time, for one that waits for that; else 0
    :param call_due: when the timeout of a call_job step ends, in monotonic time
    :param timed_out: set when a call_job step's time is up and its child is being stopped for that reason
    :param facts: what else its host has reported
    """

    step: PlannedStep
    number: int
    key: str
    state: AttemptState
    tries: int
    opened: bool = True
    incarnation: str = ""
    report_seq: int = 0
    not_before_us: int = 0
    due: float = 0.0
    child_run_id: str = ""
    call_due: float = 0.0
    timed_out: Reason | None = None
    facts: AttemptFacts = NO_FACTS


@dataclass(kw_only=True, slots=True)
class ActiveRun:
    """One run with all its data: RUNNING, or waiting and soon to start.

    :param tries: attempts at all steps so far; steps that were skipped or reused do not count
    :param rows_affected: the sum so far; None if no step reported a count
    :param prev_rows: row count of the last step that ran
    :param last_extras: JSON object that the last step that ran returned; empty for none
    :param previous: JSON texts of the steps so far, for ``ctx.previous_step``
    :param log_lines: lines stored so far
    :param latest_us: the latest time recorded for the run
    :param due: when the job's time limit ends, in monotonic time; 0 before the start and without a limit
    :param timed_out: set when the job's time is up and a child run is being stopped for that reason
    """

    record: RunRecord
    definition: JobDefinition
    plan: RunPlan
    index: int = 0
    current: CurrentAttempt | None = None
    cancel: CancelRequest | None = None
    tries: int = 0
    rows_affected: int | None = None
    prev_rows: int | None = None
    last_extras: bytes = b""
    previous: list[str] = field(default_factory=list)
    previous_bytes: int = 0
    log_lines: int = 0
    started_at_us: int = 0
    latest_us: int = 0
    due: float = 0.0
    timed_out: Reason | None = None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.record.run_id

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.record.job_id

    @property
    def host(self) -> str:
        """The host the job belongs to."""
        return self.record.host

    @property
    def steps(self) -> tuple[PlannedStep, ...]:
        """The planned steps."""
        return self.plan.steps

    @property
    def attempt(self) -> CurrentAttempt:
        """The current attempt, which must exist."""
        if self.current is None:
            raise AssertionError(f"run {self.run_id} has no attempt in hand")
        return self.current

    @property
    def instance(self) -> InstanceKey:
        """The key of the instance that the current attempt was given to."""
        return self.host, self.attempt.incarnation

    def key_of(self, step: PlannedStep) -> str:
        """Return the key of the current attempt; of a run that has not started, of its first attempt at ``step``."""
        return attempt_key(self.run_id, step.name, 1) if self.current is None else self.current.key

    def named(self) -> tuple[str, str, int, str, int]:
        """Return the first fields of each transition of the current attempt, which name it."""
        current = self.attempt
        return self.run_id, self.job_id, current.step.index, current.step.name, current.number

    def stamp(self, at_us: int) -> int:
        """Return the time to record for a current event: the given time, but never before an earlier event.

        Clocks can be set back, and host and kernel have different clocks; no duration may become negative.
        """
        self.latest_us = max(self.latest_us, at_us)
        return self.latest_us

    @property
    def deadline_us(self) -> int | None:
        """The time at which the job's time limit ends; None without a limit, or before the run has started."""
        if self.definition.timeout_seconds is None or not self.started_at_us:
            return None
        return self.started_at_us + int(self.definition.timeout_seconds * 1_000_000)

    def note_result(self, step: str, state: AttemptState, rows: int | None, extras_json: bytes | None) -> None:
        """Add a finished step to the sums and to the data that later steps may read.

        Extras that would make those of all steps larger than 512 KiB are left out, marked ``"extras_omitted"``.

        :param extras_json: None if they were left out before
        """
        if rows is not None:
            # Each count fits into 64 bits; a sum that does not is capped at the largest value the store can hold.
            self.rows_affected = max(-(2**63), min((self.rows_affected or 0) + rows, 2**63 - 1))
        self.prev_rows, self.last_extras = rows, extras_json or b""
        head = f'{{"name":{_quoted(step)},"state":"{state}","rows_affected":{"null" if rows is None else rows},'
        if extras_json is None or self.previous_bytes + len(extras_json) > PREVIOUS_STEPS_BYTES:
            text = head + '"extras":{},"extras_omitted":true}'
        else:
            text = f'{head}"extras":{extras_json.decode() or "{}"}}}'
            self.previous_bytes += len(extras_json)
        self.previous.append(text)

    def previous_steps_json(self) -> str:
        """Return the JSON array of the finished steps."""
        return f"[{','.join(self.previous)}]" if self.previous else "[]"

    @classmethod
    def new(cls, record: RunRecord, definition: JobDefinition, plan: RunPlan) -> ActiveRun:
        """Return a run that has not started."""
        return cls(
            record=record,
            definition=definition,
            plan=plan,
            cancel=record.cancel,
            log_lines=record.log_lines,
            latest_us=record.queued_at_us,
        )

    @classmethod
    def stored(cls, detail: RunDetail) -> ActiveRun:
        """Return a run as the store has it, before its first attempt."""
        definition = JobDefinition.from_json(detail.definition)
        return cls.new(detail.run, definition, plan_run(definition, detail.run.request))

    def restore(self, attempts: Sequence[AttemptRecord]) -> None:
        """Set the position from the stored attempts of a RUNNING run."""
        self.started_at_us = self.record.started_at_us or self.record.queued_at_us
        self.latest_us = self.started_at_us
        by_step: dict[int, list[AttemptRecord]] = {}
        for attempt in sorted(attempts, key=lambda item: (item.step_index, item.attempt)):
            by_step.setdefault(attempt.step_index, []).append(attempt)
            reused = attempt.reason is not None and attempt.reason.code == "reused"
            self.tries += attempt.state is not AttemptState.SKIPPED and not reused
            for at_us in (attempt.dispatched_at_us, attempt.started_at_us, attempt.finished_at_us):
                self.stamp(at_us or 0)
        for step in self.steps:
            self.index = step.index
            tries = by_step.get(step.index)
            if not tries:
                return
            last = tries[-1]
            if last.state not in ATTEMPT_TERMINAL:
                self.current = _restore_attempt(step, last, tries, retry_on_lost=self.definition.retry_on_lost)
                return
            if last.state is not AttemptState.SKIPPED:
                self.note_result(step.name, last.state, last.rows_affected, last.extras_json)
        self.index = len(self.steps)


def _restore_attempt(
    step: PlannedStep, last: AttemptRecord, tries: Sequence[AttemptRecord], *, retry_on_lost: bool
) -> CurrentAttempt:
    free = {"host_refused", "worker_killed"} if retry_on_lost else {"host_refused"}
    uncounted = sum(1 for item in tries[:-1] if item.reason is not None and item.reason.code in free)
    return CurrentAttempt(
        step=step,
        number=last.attempt,
        key=attempt_key(last.run_id, step.name, last.attempt),
        state=last.state,
        tries=len(tries) - uncounted,
        incarnation=last.incarnation,
        report_seq=last.report_seq,
        not_before_us=last.not_before_us or 0,
        child_run_id=last.child_run_id,
        facts=last.facts,
    )
