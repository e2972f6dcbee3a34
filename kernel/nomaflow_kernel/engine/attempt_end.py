"""The end of an attempt, as reported or concluded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from msgspec import structs

from nomaflow_api.v1.letters import MAX_TEXT, Finished
from nomaflow_api.v1.lossless_json import ValueCodecError, loads_plain
from nomaflow_api.v1.sealing import LetterError, open_outcome
from nomaflow_kernel.engine.active_run import ActiveRun
from nomaflow_kernel.history.attempt_facts import NO_FACTS, AttemptFacts
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.states import AttemptState
from nomaflow_kernel.history.transitions import AttemptEnd, FinishAttempt

_STATES = {state.value: state for state in AttemptState}


def reported_end(event: Finished) -> AttemptEnd:
    """Return the end of a reported attempt: the host's own verdict, else the worker's.

    A result is kept even if the attempt was stopped meanwhile. Its facts lack what the host reported before.

    :raises LetterError: if the worker's letter breaks the contract
    """
    code, reason, error = event.reason_code, event.reason, event.error
    warnings, not_started = event.warnings, event.not_started
    rows_affected, extras_json, has_result = None, b"", False
    exception_types: tuple[str, ...] = ()
    if event.outcome:
        told = open_outcome(event.outcome)
        warnings, not_started = (*warnings, *told.warnings), told.not_started
        if told.state == "SUCCEEDED":
            _check_extras(told.extras_json)
            rows_affected, extras_json, has_result = told.rows_affected, told.extras_json, told.has_result
        if not code:
            code, reason = told.reason_code, told.reason
        if not (event.reason_code and told.cancelled_error):
            error, exception_types = told.error, told.exception_types
    warnings = _fitting(warnings)
    data: dict[str, Any] = {"warnings": list(warnings)} if warnings else {}
    if not_started:
        data["not_started"] = True
    return AttemptEnd(
        state=_STATES[event.state.value],
        reason=Reason(code, reason) if code else None,
        error=error,
        rows_affected=rows_affected,
        extras_json=extras_json,
        has_result=has_result,
        exception_types=exception_types,
        peak_rss_bytes=event.peak_rss_bytes,
        cpu_seconds=event.cpu_seconds if math.isfinite(event.cpu_seconds) else 0.0,
        facts=_facts(event, warnings),
        data=data,
    )


def _fitting(warnings: Sequence[str]) -> tuple[str, ...]:
    """Return the first warnings, all of them together no longer than one text: each look at the run reads them."""
    sizes = accumulate(map(len, warnings))
    return tuple(each for each, size in zip(warnings, sizes, strict=True) if size <= MAX_TEXT)


def finish(run: ActiveRun, end: AttemptEnd, at_us: int) -> FinishAttempt:
    """Return the transition that records the end of the current attempt, with the facts that were reported before."""
    earlier = run.attempt.facts
    if earlier is not NO_FACTS:
        complete = end.facts.complete and not earlier.lost_lines
        facts = structs.replace(end.facts, rungs=earlier.rungs, lost_lines=earlier.lost_lines, complete=complete)
        end = structs.replace(end, facts=facts)
    return FinishAttempt(*run.named(), end=end, at_us=at_us)


def _facts(event: Finished, warnings: tuple[str, ...]) -> AttemptFacts:
    return AttemptFacts(
        stopped_at_us=event.stopped_at_us,
        exit_status=event.exit_status,
        exit_signal=event.exit_signal,
        exit_text=event.exit_text,
        warnings=warnings,
        dropped_lines=event.dropped_lines,
        dropped_bytes=event.dropped_bytes,
        complete=not event.lines_lost,
    )


def _check_extras(extras_json: bytes) -> None:
    if not extras_json:
        return
    try:
        extras = loads_plain(extras_json.decode("utf-8"), path="extras")
    except (UnicodeDecodeError, ValueCodecError) as error:
        raise LetterError(f"extras_json cannot be read: {error}") from None
    if not isinstance(extras, dict):
        raise LetterError(f"extras_json holds {type(extras).__name__}, expected an object")
