"""Filters of lists, made from client requests and checked for form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.history.event_kinds import EVENT_KINDS
from nomaflow_kernel.history.ids import is_run_id
from nomaflow_kernel.history.lookups import EventFilter, RunFilter
from nomaflow_kernel.history.reasons import REASONS
from nomaflow_kernel.history.records import TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.rpc.requests import check_host, check_job_id, check_name, listed_names, moment_us

__all__ = ["event_filter", "run_filter"]

_RUN_STATES = {run_pb2.RunState.Value(f"RUN_STATE_{state.name}"): state for state in RunState}
_ALL_TRIGGER_KINDS = {run_pb2.TriggerKind.Value(f"TRIGGER_KIND_{kind.name}"): kind for kind in TriggerKind}
_EXCLUDED = 100
_NAMED_RUNS = 500
_REASON_CODES = 100
_KINDS = 64
_KNOWN_KINDS = {*EVENT_KINDS, *(kind.partition(".")[0] for kind in EVENT_KINDS)}
_LEVEL_BITS = 0x7FFF_FFFF
_RUN_ID_PREFIX = re.compile("(run_[0-9a-z]{0,26})?")


def run_filter(request: kernel.ListRunsRequest) -> RunFilter:
    """Return the filter for listing runs.

    :raises BadRequest: if a field breaks a rule
    """
    if request.job_id:
        check_job_id(request.job_id)
    if request.host:
        check_host(request.host)
    states = []
    for number in request.states[:64]:
        if number not in _RUN_STATES:
            raise BadRequest(f"states has the number {number}, expected run states", field="states")
        states.append(_RUN_STATES[number])
    check_name(request.tag, "tag")
    check_name(request.triggered_by, "triggered_by")
    for job_id in _at_most(request.exclude_job_ids, _EXCLUDED, "exclude_job_ids"):
        check_job_id(job_id)
    for field in ("replay_of", "parent_run_id"):
        _check_any_run_id(getattr(request, field), field)
    if not _RUN_ID_PREFIX.fullmatch(request.run_id_prefix):
        raise BadRequest(
            f"run_id_prefix is {request.run_id_prefix[:64]!r}, expected the beginning of a run id",
            field="run_id_prefix",
        )
    return RunFilter(
        job_id=request.job_id,
        host=request.host,
        states=tuple(states),
        since_us=moment_us(request, "since"),
        until_us=moment_us(request, "until"),
        trigger_kinds=tuple(map(_trigger_kind, request.trigger_kinds[:64])),
        triggered_by=request.triggered_by,
        reason_codes=listed_names(
            _at_most(request.reason_codes, _REASON_CODES, "reason_codes"), REASONS, noun="reason", field="reason_codes"
        ),
        exclude_job_ids=tuple(request.exclude_job_ids),
        run_id_prefix=request.run_id_prefix,
        run_ids=tuple(_at_most(request.run_ids, _NAMED_RUNS, "run_ids")) or None,
        replay_of=request.replay_of,
        parent_run_id=request.parent_run_id,
        log_levels=request.log_levels & _LEVEL_BITS,
        oldest_first=request.oldest_first,
    )


def _trigger_kind(number: run_pb2.TriggerKind.ValueType) -> TriggerKind:
    kind = _ALL_TRIGGER_KINDS.get(number)
    if kind is None:
        raise BadRequest(f"trigger_kinds has the number {number}, expected trigger kinds", field="trigger_kinds")
    return kind


def _at_most(items: Sequence[str], most: int, field: str) -> Sequence[str]:
    if len(items) > most:
        raise BadRequest(f"{field} has {len(items)} items, expected at most {most}", field=field)
    for item in items:
        check_name(item, field)
    return items


def _check_any_run_id(run_id: str, field: str) -> None:
    if run_id and not is_run_id(run_id):
        raise BadRequest(f"{field} is {run_id[:64]!r}, expected 'run_' and 26 characters", field=field)


def event_filter(request: Any) -> EventFilter:
    """Return the filter of a request for events.

    :raises BadRequest: if a field breaks a rule
    """
    if request.job_id:
        check_job_id(request.job_id)
    if request.host:
        check_host(request.host)
    named = [kind.rstrip(".") for kind in _at_most(request.kinds, _KINDS, "kinds")]
    return EventFilter(
        kinds=listed_names(named, _KNOWN_KINDS, noun="kind of event", field="kinds"),
        job_id=request.job_id,
        host=request.host,
    )
