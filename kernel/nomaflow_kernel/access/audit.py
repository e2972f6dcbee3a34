"""The audit in front of the store: what was changed, by whom, and what was refused."""

from __future__ import annotations

import logging
from typing import Any

from nomaflow_kernel.access.policy import Rule
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.history.access_records import AuditRecord
from nomaflow_kernel.history.port import Store

__all__ = ["AuditLog"]

_LOG = logging.getLogger(__name__)


class AuditLog:
    """Writes the audit.

    :param store: None for a kernel that does not lead: it changes nothing, and has nowhere to write
    """

    def __init__(self, *, store: Store | None, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def changed(self, method: str, rule: Rule, request: Any, response: Any, caller: Caller) -> None:
        """Write down a call that changed something; durable when this returns."""
        if self._store is not None and rule.changes:
            await self._store.append_audit((self._row(method, request, "ok", caller),))

    def refused(self, method: str, request: Any, error: KernelError, caller: Caller) -> None:
        """Note a call that was refused; like ones soon after each other become one row.

        :param request: None if it was refused before it was read
        """

    def _row(self, method: str, request: Any, outcome: str, caller: Caller) -> AuditRecord:
        return AuditRecord(
            at_us=self._clock.now_us(),
            principal=str(caller.principal),
            address=caller.peer,
            action=method.rpartition("/")[2],
            target=_target(request),
            outcome=outcome,
        )


def _target(request: Any) -> str:
    for field, prefix in (("job_id", "job:"), ("run_id", ""), ("host", "host:")):
        name = getattr(request, field, "")
        if name:
            return f"{prefix}{name}"
    return ""
