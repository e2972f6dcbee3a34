"""Calls that change something, and the audit row that each becomes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Any

from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.history.access_records import AuditRecord

__all__ = ["CALL", "AuditedCall", "audit_row", "named", "target_of"]

_TEXT = 200
_NOTE = 500
_NAMED = 5
_TRACE_ID = 32
_WITH_RUNS = frozenset({"TriggerRun", "TriggerRuns", "ReplayRun"})
"""Calls whose row is stored with their runs: where the engine has stored none, they changed nothing."""


class AuditedCall:
    """A call that changes something, until its row is written.

    The engine takes the row with its commit, so that a change and its row are stored together or not at all; for a
    change that is not the engine's, the row is written after it.

    :param action: the rpc's name
    :ivar written: whether the row is in a commit
    """

    __slots__ = ("_caller", "_clock", "_request", "action", "written")

    def __init__(self, *, action: str, request: Any, caller: Caller, clock: Clock) -> None:
        self.action = action
        self.written = False
        self._request = request
        self._caller = caller
        self._clock = clock

    @property
    def row_is_due(self) -> bool:
        """True if the row has still to be written once the call is answered."""
        return not self.written and self.action not in _WITH_RUNS

    def row_with_runs(self, run_ids: Sequence[str] | None) -> AuditRecord | None:
        """Return the row for a commit that makes the change; None if there is nothing to write, or it is written.

        :param run_ids: the runs that the commit makes; empty if it makes none; None if it changes nothing yet
        """
        if run_ids is None or self.written:
            return None
        self.written = True
        note, correlation = _note_of(self._request), run_ids[0] if run_ids else ""
        if self.action == "TriggerRuns":
            note = f"{len(run_ids)} of {len(self._request.requests)} started"
            correlation = correlation if len(run_ids) < 2 else f"{run_ids[0]} to {run_ids[-1]}"
        return self._row(target_of(self._request), note, correlation)

    def row(self, response: Any) -> AuditRecord:
        """Return the row for a change that is done and answered."""
        self.written = True
        target = target_of(self._request) or target_of(response) or "*"
        return self._row(target, _note_of(self._request, response), _correlation_of(self._request, response))

    def _row(self, target: str, note: str, correlation: str) -> AuditRecord:
        return audit_row(
            self._clock, self._caller, action=self.action, target=target, note=note, correlation=correlation
        )


CALL: ContextVar[AuditedCall | None] = ContextVar("nomaflow_audited_call", default=None)
"""The call under way in this task, if it is one that changes something."""


def audit_row(
    clock: Clock,
    caller: Caller,
    *,
    action: str,
    target: str,
    outcome: str = "ok",
    note: str = "",
    correlation: str = "",
) -> AuditRecord:
    """Return a row about a caller, of now, with texts of bounded length."""
    return AuditRecord(
        at_us=clock.now_us(),
        principal=str(caller.principal),
        address=_without_port(caller.peer)[:_TEXT],
        action=action,
        target=target[:_TEXT],
        outcome=outcome,
        note=note[:_NOTE],
        correlation=(correlation or _trace_id(caller.traceparent))[:_TEXT],
    )


def target_of(message: Any) -> str:
    """Return what a request is about, as the audit names it; empty if it names nothing."""
    if message is None:
        return ""
    for field, prefix in (("job_id", "job:"), ("run_id", ""), ("host", "host:"), ("token_id", ""), ("target", "")):
        name = getattr(message, field, "")
        if name:
            return f"{prefix}{name}"
    if getattr(message, "requests", None):
        return named("job:", (each.job_id for each in message.requests))
    name = getattr(message, "name", "")
    return f"{_kind_of(message)}{name}" if name else ""


def _kind_of(message: Any) -> str:
    kind = message.DESCRIPTOR.fields_by_name.get("kind")
    if kind is None or kind.enum_type is None:
        return ""
    value = kind.enum_type.values_by_number.get(message.kind)
    return f"{value.name.rpartition('_')[2].lower()}:" if value is not None else ""


def _note_of(request: Any, response: Any = None) -> str:
    """Return what a caller says of its call, and what the call is beyond its target."""
    by, why = getattr(request, "by", ""), getattr(request, "why", "")
    parts = [f"for {by}"] if by else []
    if why:
        parts.append(why)
    for field in ("roles", "grants"):
        given = getattr(request, field, ())
        if given:
            parts.append(f"{field} {named('', given)}")
    parts += [word for field, word in _SWITCHES if getattr(request, field, False) is True]
    for field, word in _ANSWERED:
        job_ids = getattr(response, field, ())
        if job_ids:
            parts.append(f"{word} {named('job:', job_ids)}")
    return "; ".join(parts)


_SWITCHES = (("replace", "a new authority"), ("force", "forced"), ("joins", "joins"), ("explicit", "on request"))
_ANSWERED = (("disabled_job_ids", "disabled"), ("released_job_ids", "free now"))


def _correlation_of(request: Any, response: Any) -> str:
    """Return the run, the credential or the manifest that an answer is about."""
    run = getattr(response, "run", None)
    if run is not None and run.run_id:
        return str(run.run_id)
    token = getattr(response, "token", None)
    if token is not None and getattr(token, "token_id", None):
        return str(token.token_id)
    withdrawn = [*getattr(response, "token_ids", ()), *getattr(response, "serials", ())]
    return named("", withdrawn) if withdrawn else str(getattr(request, "digest", ""))


def named(prefix: str, names: Iterable[str]) -> str:
    """Return some of the names, each once and with a prefix, and how many more there are."""
    distinct = list(dict.fromkeys(names))
    more = len(distinct) - _NAMED
    return ", ".join(f"{prefix}{name}" for name in distinct[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _without_port(peer: str) -> str:
    """Return a peer's address as gRPC writes it, without the port, which is another for each connection."""
    if not peer.startswith(("ipv4:", "ipv6:")):
        return peer
    return peer.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]")


def _trace_id(traceparent: str) -> str:
    _, _, rest = traceparent.partition("-")
    trace_id = rest[:_TRACE_ID]
    return f"trace {trace_id}" if len(trace_id) == _TRACE_ID and trace_id.isalnum() and trace_id.isascii() else ""
