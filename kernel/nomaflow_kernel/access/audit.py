"""The audit in front of the store: what was changed, by whom, and what was refused."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, get_args

from nomaflow_api.v1.reason_statuses import details_of
from nomaflow_kernel.access.audit_texts import target_of
from nomaflow_kernel.access.audited_calls import CALL, AuditedCall, audit_row
from nomaflow_kernel.access.folded_rows import FoldedRows
from nomaflow_kernel.access.policy import RULES, Rule
from nomaflow_kernel.access.principals import KERNEL, Caller, PrincipalKind
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.history.access_records import AuditRecord
from nomaflow_kernel.store.errors import StoreError
from nomaflow_kernel.store.sql_store import Store

_LOG = logging.getLogger(__name__)
_DAY_SECONDS = 86_400.0
_KINDS_OF_STRANGERS = 16
"""Kinds of refusals of callers without a credential in a period: 34 rows a minute are 6 MB a day."""
_OfSession = Literal["Attach", "ClaimJobs", "Detach"]
_OfKernel = Literal["LeadAgain", "ReloadJobsFile", "StartKernel", "StopKernel"]
_ALWAYS = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "QUOTA", "INTERNAL"})
"""Reasons recorded for every call; other reasons only for calls that would change something."""
_PASSING = frozenset({"KERNEL_STOPPING", "NOT_LEADER", "HOST_LOADING"})
"""Reasons that say nothing about the caller, who simply sends the call again."""


def _action(method: str) -> str:
    return method.rpartition("/")[2]


ACTIONS = frozenset({*map(_action, RULES), *get_args(_OfSession), *get_args(_OfKernel)})
"""Every action that a row may have: the names of the rpcs, and the changes that are not calls."""


class AuditLog:
    """Writes the audit.

    :param store: None for a kernel that does not lead, or keeps no audit: refusals are in its log only
    :param fold_seconds: how long similar rows are only counted, before their number is written
    :ivar refused_total: outcome → the number of refused calls since the start
    """

    def __init__(self, *, store: Store | None, clock: Clock, fold_seconds: float = 60.0) -> None:
        self._store = store
        self._clock = clock
        self._writing: set[asyncio.Future[None]] = set()
        self.refused_total: Counter[str] = Counter()
        self._warned: set[str] = set()
        # Of their own, so that they fill no disk, and make no refusal of a known caller one of several.
        self._strangers = FoldedRows(
            self._write, kinds=_KINDS_OF_STRANGERS, on_first=self._warn, on_more=self._tell_more, seconds=fold_seconds
        )
        self._refusals = FoldedRows(self._write, on_first=self._warn, on_more=self._tell_more, seconds=fold_seconds)
        self._sessions = FoldedRows(self._write, seconds=fold_seconds)
        self._anchoring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Log the newest hash, now and once a day."""
        if self._store is not None:
            self._anchoring = asyncio.create_task(self._tell_anchor(self._store), name="audit-anchor")

    async def stop(self) -> None:
        """Write the rows counted so far, and wait until everything is written. Stopping twice is allowed."""
        if self._anchoring is not None:
            self._anchoring.cancel()
            await asyncio.wait((self._anchoring,))
        self._strangers.flush()
        self._refusals.flush()
        self._sessions.flush()
        if self._writing:
            await asyncio.wait(self._writing)

    async def _tell_anchor(self, store: Store) -> None:
        while True:
            try:
                ends = await store.audit_ends()
            except StoreError as error:
                _LOG.warning("the newest hash of the audit cannot be read: %s", error.message)
            else:
                if ends.seq:
                    _LOG.info("audit anchor %d:%s", ends.seq, ends.hash)
            await asyncio.sleep(_DAY_SECONDS)

    # Calls.

    def begin(self, method: str, rule: Rule, request: Any, caller: Caller) -> AuditedCall | None:
        """Return the call that begins in this task if it is one that changes something, for the engine and `done`."""
        if not rule.changes or self._store is None:
            return None
        call = AuditedCall(action=_action(method), request=request, caller=caller, clock=self._clock)
        CALL.set(call)
        return call

    async def done(self, call: AuditedCall, response: Any, caller: Caller) -> None:
        """Write the row of a call that is about to be answered, unless it is written; durable when this returns.

        :raises StoreError: if it cannot be written; then the call is not acknowledged, and the row is in the log
        """
        if call.row_is_due and self._store is not None:
            await asyncio.shield(self._submit(self._store, (call.row(response),)))
        elif call.action == "TriggerRuns":
            self._refused_items(call.request, response, caller)

    def refused(
        self, method: str, request: Any, reason: str, caller: Caller, *, error_id: str = "", about: str = ""
    ) -> None:
        """Note a call that was refused, or ended without an answer; similar ones within a minute are only counted.

        :param request: None if it was refused before it was read
        :param reason: a key of ``REASONS``, or ``CANCELLED`` if the caller left: the change may have been made
        :param error_id: the one in the answer, for INTERNAL
        :param about: the target, if the request does not name it
        """
        rule = RULES.get(method)
        changes = rule is not None and rule.changes and reason not in _PASSING and not reason.startswith("STORE_")
        if reason in _ALWAYS or changes:
            self._refuse(_action(method), target_of(request) or about, reason, caller, correlation=error_id)

    def _refused_items(self, request: Any, response: Any, caller: Caller) -> None:
        for asked, item in zip(request.requests, response.items, strict=False):
            if item.HasField("status") and (reason := details_of(item.status).reason) in _ALWAYS:
                self._refuse("TriggerRuns", target_of(asked), reason, caller)

    def _refuse(self, action: str, target: str, reason: str, caller: Caller, *, correlation: str = "") -> None:
        self.refused_total[reason] += 1
        rows = self._strangers if caller.principal.kind is PrincipalKind.ANYONE else self._refusals
        rows.add(audit_row(self._clock, caller, action=action, target=target, outcome=reason, correlation=correlation))

    def _warn(self, record: AuditRecord) -> None:
        if record.outcome == "UNAUTHENTICATED" and record.address not in self._warned:
            self._warned.add(record.address)
            _LOG.warning("a call from %s has no valid credential: %s", record.address, record.action)

    def _tell_more(self, count: int) -> None:
        self._warned.clear()
        if count:
            _LOG.warning("%d more calls like those were refused since then", count)

    # Changes that are not calls.

    def of_session(
        self, action: _OfSession, caller: Caller, *, target: str, outcome: str = "ok", note: str = ""
    ) -> None:
        """Record an event of a host's session; similar ones within a minute are only counted."""
        self._sessions.add(audit_row(self._clock, caller, action=action, target=target, outcome=outcome, note=note))

    def happened(self, action: _OfKernel, *, note: str) -> None:
        """Record something that the kernel does by itself, such as its start."""
        self._write((audit_row(self._clock, KERNEL, action=action, target="kernel", note=note),))

    def _write(self, rows: Sequence[AuditRecord]) -> None:
        if self._store is not None:
            self._submit(self._store, rows)

    def _submit(self, store: Store, rows: Sequence[AuditRecord]) -> asyncio.Future[None]:
        """Submit rows; those that cannot be written go to the log."""
        writing: asyncio.Future[None] = asyncio.ensure_future(store.append_audit(rows))
        self._writing.add(writing)
        writing.add_done_callback(lambda done: self._written(rows, done))
        return writing

    def _written(self, rows: Sequence[AuditRecord], done: asyncio.Future[None]) -> None:
        self._writing.discard(done)
        error = None if done.cancelled() else done.exception()
        for row in rows if error is not None else ():
            _LOG.error(
                "the audit cannot be written (%s): %s %r %s by %s from %s, %d times",
                error, row.action, row.target, row.outcome, row.principal, row.address, row.count,
            )  # fmt: skip
