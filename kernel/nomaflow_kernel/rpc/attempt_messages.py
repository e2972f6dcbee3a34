"""Messages to clients about steps and attempts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.message_codec import encode
from nomaflow_kernel.access.secret_params import hidden
from nomaflow_kernel.engine.run_plan import PlannedStep, RunPlan
from nomaflow_kernel.history.attempt_facts import AttemptFacts
from nomaflow_kernel.history.ids import attempt_key
from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.records import AttemptLogRecord, AttemptRecord
from nomaflow_kernel.history.states import ATTEMPT_TERMINAL, AttemptState
from nomaflow_project.jobs.definitions import JobDefinition

VALUES_BYTES = 2 * 1024 * 1024
"""The most bytes of step values in one message."""

RUN_BYTES = 32 * 1024 * 1024
"""The most bytes of the attempts of a run, results and texts included; more would be refused by gRPC."""
LISTED_RUN_BYTES = 256 * 1024
"""The same of a run in a list, which may have 50 of them."""
_LEAST_BYTES = 1_000
"""An attempt of less is never shortened."""
_SHORT_ERROR = 200
_LEFT_OUT = "its result is left out here: those of this run are too large together"

AttemptLogs = Mapping[tuple[str, int], AttemptLogRecord]
"""How much of each attempt's log is stored, by step and number of the try."""

_US = 1_000_000
_NO_LOG = AttemptLogRecord(first_seq=0, last_seq=0, lines=0, levels=0)


def step_messages(
    detail: RunDetail, definition: JobDefinition, plan: RunPlan, logs: AttemptLogs | None
) -> list[run_pb2.Step]:
    """Return the steps of a run with their attempts.

    :param logs: None leaves out what lists do not show: values, up to 2 MiB, logs, and most results if they are large
    """
    tries: dict[int, list[AttemptRecord]] = {}
    for attempt in detail.attempts:
        tries.setdefault(attempt.step_index, []).append(attempt)
    messages, left = [], VALUES_BYTES
    for step in plan.steps:
        message = encode(
            run_pb2.Step,
            step,
            callable=step.target_job_id or step.callable,
            max_attempts=step.retry.attempts,
            attempts=[
                _attempt_message(attempt, step, _deadline_us(attempt, step, detail, definition))
                for attempt in tries.get(step.index, ())
            ],
        )
        if logs is not None:
            values = given_values(step, definition.secret_params) if left >= 0 and message.attempts else b""
            for attempt, told in zip(tries.get(step.index, ()), message.attempts, strict=True):
                told.log.CopyFrom(_log_message(attempt, logs.get((step.name, attempt.attempt))))
                left -= len(values)
                if left >= 0 and (attempt.dispatched_at_us is not None or attempt.child_run_id):
                    told.kwargs_json = values
        messages.append(message)
    _leave_out_results(messages, most=LISTED_RUN_BYTES if logs is None else RUN_BYTES)
    return messages


def _leave_out_results(steps: Sequence[run_pb2.Step], *, most: int) -> None:
    """Shorten the oldest attempts if all together are too large for a message; each says so."""
    left = most
    for step in reversed(steps):
        for told in reversed(step.attempts):
            size = told.ByteSize()
            left -= size
            if left < 0 and size > _LEAST_BYTES:
                told.extras_json, told.error = b"", told.error[:_SHORT_ERROR]
                told.warnings[:] = [_LEFT_OUT]


def given_values(step: PlannedStep, secret_params: Sequence[str]) -> bytes:
    """Return what a step is given, merged from all layers, references unresolved; secret values are ``***``."""
    text = json.dumps(step.child_params[0], separators=(",", ":")) if step.calls_job else step.kwargs_json
    return hidden(text, secret_params).encode("utf-8", "surrogatepass")


def _attempt_message(attempt: AttemptRecord, step: PlannedStep, deadline_us: int | None) -> run_pb2.Attempt:
    told = json.loads(attempt.progress_json) if attempt.progress_json else {}
    progress = (
        run_pb2.Progress(done=told["done"], total=told.get("total"), message=told.get("message", "")) if told else None
    )
    return encode(
        run_pb2.Attempt,
        attempt,
        attempt.facts,
        attempt_key=attempt_key(attempt.run_id, attempt.step, attempt.attempt),
        progress=progress,
        extras_json=attempt.extras_json or b"",
        warnings=attempt.facts.warnings if attempt.extras_json is not None else (*attempt.facts.warnings, _LEFT_OUT),
        child_job_id=step.target_job_id if attempt.child_run_id else "",
        kwargs_json=b"",
        not_before=attempt.not_before_us if attempt.attempt > 1 else None,
        deadline_at=deadline_us,
        exit=_exit_message(attempt.facts),
        log=None,
        stop=_stop_message(attempt.facts),
    )


def _deadline_us(attempt: AttemptRecord, step: PlannedStep, detail: RunDetail, definition: JobDefinition) -> int | None:
    """Return when the time of an attempt is up: from its start, its host counts what is left of both limits."""
    started = attempt.started_at_us
    if started is None:
        return None
    ends = []
    if step.timeout_seconds is not None:
        ends.append(started + int(step.timeout_seconds * _US))
    if definition.timeout_seconds is not None and detail.run.started_at_us is not None:
        waited = started - (attempt.dispatched_at_us or started)
        ends.append(detail.run.started_at_us + int(definition.timeout_seconds * _US) + waited)
    return min(ends, default=None)


def _exit_message(facts: AttemptFacts) -> run_pb2.AttemptExit | None:
    if not facts.exit_text:
        return None
    return run_pb2.AttemptExit(status=facts.exit_status, signal=facts.exit_signal, text=facts.exit_text)


def _stop_message(facts: AttemptFacts) -> run_pb2.AttemptStop | None:
    if not facts.rungs:
        return None
    rungs = [
        encode(run_pb2.StopRung, each, after_seconds=each.after_us / _US, next_at=each.next_at_us or None)
        for each in facts.rungs
    ]
    return encode(run_pb2.AttemptStop, rungs=rungs, stopped_at=facts.stopped_at_us or None)


def _log_message(attempt: AttemptRecord, stored: AttemptLogRecord | None) -> run_pb2.AttemptLog:
    facts = attempt.facts
    # An attempt that no host ever got has no log, so nothing of it can be missing.
    unsent = attempt.state in ATTEMPT_TERMINAL and attempt.dispatched_at_us is None
    complete = (facts.complete and not facts.lost_lines) or (unsent and attempt.state is not AttemptState.LOST)
    return encode(run_pb2.AttemptLog, stored or _NO_LOG, facts, complete=complete)
