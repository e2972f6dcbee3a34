"""Filters of lists, made from client requests and checked for form."""

from __future__ import annotations

import re
from typing import Any

from nomaflow_api.log_levels import ALL_LEVELS
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.history.event_kinds import EVENT_KINDS
from nomaflow_kernel.history.lookups import EventFilter, RunFilter
from nomaflow_kernel.history.reason_texts import REASONS
from nomaflow_kernel.history.records import TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.rpc.requests import (
    check_each,
    check_job_id,
    check_most,
    check_name,
    check_place,
    check_run_id,
    listed_names,
    listed_numbers,
    range_us,
)

_RUN_STATES = {run_pb2.RunState.Value(f"RUN_STATE_{state.name}"): state for state in RunState}
_ALL_TRIGGER_KINDS = {run_pb2.TriggerKind.Value(f"TRIGGER_KIND_{kind.name}"): kind for kind in TriggerKind}
_EXPECTED_STATES = "run states: " + ", ".join(f"{number} {state}" for number, state in _RUN_STATES.items())
_EXPECTED_KINDS = "trigger kinds: " + ", ".join(f"{number} {kind}" for number, kind in _ALL_TRIGGER_KINDS.items())
_EXCLUDED = 100
_NAMED_RUNS = 500
_REASON_CODES = 100
_KINDS = 64
_KNOWN_KINDS = {*EVENT_KINDS, *(kind.partition(".")[0] for kind in EVENT_KINDS)}
_RUN_ID_PREFIX = re.compile("(run_[0-9a-z]{0,26})?")


def run_filter(request: kernel.ListRunsRequest) -> RunFilter:
    """Return the filter for listing runs.

    :raises BadRequest: if a field breaks a rule
    """
    check_place(request)
    check_name(request.tag, "tag")
    check_name(request.triggered_by, "triggered_by")
    check_each(request.exclude_job_ids, _EXCLUDED, "exclude_job_ids", check_job_id)
    check_each(request.run_ids, _NAMED_RUNS, "run_ids", check_run_id)
    for field in ("replay_of", "parent_run_id"):
        if run_id := getattr(request, field):
            check_run_id(run_id, field)
    if not _RUN_ID_PREFIX.fullmatch(request.run_id_prefix):
        raise BadRequest(
            f"run_id_prefix is {request.run_id_prefix[:64]!r}, expected the beginning of a run id",
            field="run_id_prefix",
        )
    check_most(request.log_levels, ALL_LEVELS, "log_levels")
    states = listed_numbers(request.states, _RUN_STATES, "states", _EXPECTED_STATES)
    kinds = listed_numbers(request.trigger_kinds, _ALL_TRIGGER_KINDS, "trigger_kinds", _EXPECTED_KINDS)
    since_us, until_us = range_us(request)
    return RunFilter(
        job_id=request.job_id,
        host=request.host,
        states=tuple(_RUN_STATES[each] for each in states),
        since_us=since_us,
        until_us=until_us,
        trigger_kinds=tuple(_ALL_TRIGGER_KINDS[each] for each in kinds),
        triggered_by=request.triggered_by,
        reason_codes=listed_names(
            check_each(request.reason_codes, _REASON_CODES, "reason_codes", check_name),
            REASONS,
            noun="reason",
            field="reason_codes",
            page="docs/reason_codes.md",
        ),
        exclude_job_ids=tuple(request.exclude_job_ids),
        run_id_prefix=request.run_id_prefix,
        run_ids=tuple(request.run_ids) or None,
        replay_of=request.replay_of,
        parent_run_id=request.parent_run_id,
        log_levels=request.log_levels,
        oldest_first=request.oldest_first,
    )


def event_filter(request: Any) -> EventFilter:
    """Return the filter of a request for events.

    :raises BadRequest: if a field breaks a rule
    """
    check_place(request)
    named = [kind.rstrip(".") for kind in check_each(request.kinds, _KINDS, "kinds", check_name)]
    return EventFilter(
        kinds=listed_names(named, _KNOWN_KINDS, noun="kind of event", field="kinds", page="docs/events.md"),
        job_id=request.job_id,
        host=request.host,
    )
