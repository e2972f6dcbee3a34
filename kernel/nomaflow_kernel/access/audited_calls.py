"""Calls that change something, and the audit row that each becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from nomaflow_kernel.access.audit_texts import address_of, correlation_of, note_of, target_of, trace_of
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.history.access_records import AuditRecord

_TEXT = 200
_NOTE = 500
_WITH_RUNS = frozenset({"TriggerRun", "TriggerRuns", "ReplayRun"})
"""Calls whose row is stored with their runs: if the engine stored no row, the call changed nothing."""


@dataclass(kw_only=True, slots=True)
class AuditedCall:
    """A call that changes something, until its row is written.

    The engine takes the row with its commit, so that a change and its row are stored together or not at all; for a
    change that is not the engine's, the row is written after it.

    :param action: the rpc's name
    :ivar each: the requests that become a row each; None if the call becomes one
    :ivar written: whether the row is in a commit
    :ivar target: what the call is about, if its service knows more than the request and the answer say
    :ivar correlation: the same for the credential that it is about
    """

    action: str
    request: Any
    caller: Caller
    clock: Clock
    each: Sequence[Any] | None = None
    written: bool = False
    target: str = ""
    correlation: str = ""

    @property
    def row_is_due(self) -> bool:
        """True if the row has still to be written once the call is answered."""
        return not self.written and self.action not in _WITH_RUNS

    def rows_with_runs(self, made: Mapping[int, str] | None) -> Sequence[AuditRecord]:
        """Return the rows for a commit that makes the change, unless they are written.

        :param made: the run that the commit makes for each item of the call; empty if it makes none; None if it changes
            nothing yet
        """
        if made is None or (self.written and not made):
            return ()
        self.written = True
        if self.each is not None:
            items = ((self.each[index], run_id) for index, run_id in made.items())
            return [self._row(target_of(request), note_of(request), run_id) for request, run_id in items]
        run_ids = list(made.values())
        note, correlation = note_of(self.request), run_ids[0] if run_ids else correlation_of(self.request, None)
        if self.action == "TriggerRuns":
            note = f"{len(run_ids)} of {len(self.request.requests)} started"
            correlation = correlation if len(run_ids) < 2 else f"{run_ids[0]} to {run_ids[-1]}"
        return (self._row(target_of(self.request) or "*", note, correlation),)

    def row(self, response: Any) -> AuditRecord:
        """Return the row for a change that is done and answered."""
        self.written = True
        target = self.target or target_of(self.request) or target_of(response) or "*"
        correlation = self.correlation or correlation_of(self.request, response)
        return self._row(target, note_of(self.request, response), correlation)

    def _row(self, target: str, note: str, correlation: str) -> AuditRecord:
        return audit_row(self.clock, self.caller, action=self.action, target=target, note=note, correlation=correlation)


CALL: ContextVar[AuditedCall | None] = ContextVar("nomaflow_audited_call", default=None)
"""The call under way in this task, if it is one that changes something."""


def audit_each(requests: Sequence[Any]) -> None:
    """Tell the audit that the call under way is of many requests: each that makes a run becomes a row of its own."""
    call = CALL.get()
    if call is not None:
        call.each = requests


def audit_about(target: str, *, correlation: str = "") -> None:
    """Tell the audit what the call under way is about, if neither its request nor its answer says so.

    :param correlation: the id of a token, or the serial of a certificate
    """
    call = CALL.get()
    if call is not None:
        call.target, call.correlation = target, correlation


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
    """Return a row about a caller, dated now, with texts of bounded length."""
    return AuditRecord(
        at_us=clock.now_us(),
        principal=str(caller.principal),
        address=address_of(caller.peer)[:_TEXT],
        action=action,
        target=target[:_TEXT],
        outcome=outcome,
        note=note[:_NOTE],
        correlation=(correlation or trace_of(caller.traceparent))[:_TEXT],
    )
