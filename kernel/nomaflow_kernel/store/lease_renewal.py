"""Renewal of a leading kernel's lease, on its own connection, so that no write delays it."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from nomaflow_api.boot_clock import boot_seconds
from nomaflow_kernel.store.errors import LeadLost, StaleEpoch, StoreError
from nomaflow_kernel.store.lease_row import LeasePolicy, release_lease, renew_lease
from nomaflow_kernel.store.writer import Link, in_transaction

_log = logging.getLogger(__name__)
_PATIENCE_SECONDS = 1.0
_UNTOLD_SECONDS = 0.5


class LeaseKeeper:
    """Renews the lease until it is stopped, or loses the lease and reports it.

    The lease counts as lost one second (or a fifth of a shorter lease) before it can expire, counted from before the
    renewal was requested: a kernel that was frozen, or cannot reach the database, stops by itself.

    :param link: for this use only; closed by :meth:`stop`
    """

    def __init__(self, *, link: Link, policy: LeasePolicy) -> None:
        self._link = link
        self._policy = policy
        self._renew_seconds = policy.ttl_seconds / 4
        self._trust_seconds = policy.ttl_seconds - min(1.0, policy.ttl_seconds / 5)
        self._task: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._term = 0
        self._until = 0.0
        self._told = False

    def start(self, *, term: int, asked_at: float) -> None:
        """Keep a lease that was requested at the given time of the clock."""
        self._term = term
        self._until = asked_at + self._trust_seconds
        self._task = asyncio.create_task(self._keep(), name="nomaflow-lease")

    async def stop(self) -> None:
        """Give the lease back, unless it is lost, and close everything. Stopping twice is allowed."""
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait((task,))
            await self._end_renewal()
            await self._release()
        await self._link.close()

    async def _end_renewal(self) -> None:
        """Let a renewal under way finish: it must not arrive after the lease was given back."""
        if self._renewing is not None:
            _, late = await asyncio.wait((self._renewing,), timeout=_PATIENCE_SECONDS)
            for each in late:
                each.cancel()
                await asyncio.wait((each,), timeout=_PATIENCE_SECONDS)
            if self._renewing.done() and not self._renewing.cancelled():
                self._renewing.exception()  # retrieved: the result no longer matters

    async def _keep(self) -> None:
        while True:
            # Renew soon if this kernel's addresses are not published yet.
            pause = self._renew_seconds if self._told else min(self._renew_seconds, _UNTOLD_SECONDS)
            await asyncio.sleep(min(pause, max(self._until - boot_seconds(), 0.0)))
            lost = await self._renewed()
            if lost is not None:
                _log.warning("%s", lost)
                self._policy.on_lost(lost)
                return

    async def _renewed(self) -> StoreError | None:
        """Renew while the lease can be trusted; return the reason if it is lost, otherwise None."""
        detail = "this process was frozen"
        while (left := self._until - boot_seconds()) > 0:
            asked_at = boot_seconds()
            self._renewing = asyncio.create_task(self._renew(), name="nomaflow-lease-renewal")
            await asyncio.wait((self._renewing,), timeout=left)
            if not self._renewing.done():
                self._renewing.cancel()
                detail = "the database did not answer"
                break
            error = self._renewing.exception()
            if error is None:
                self._until = asked_at + self._trust_seconds
                return None
            if isinstance(error, StaleEpoch):
                return error
            detail = str(error)
            _log.warning("the lease could not be renewed, trying again: %s", error)
            await asyncio.sleep(min(self._renew_seconds / 5, left))
        return LeadLost(
            f"this kernel no longer leads: it could not renew its lease of {self._policy.ttl_seconds:g} seconds "
            f"in time ({detail}); it is on standby now; check the database and the load of this machine"
        )

    async def _renew(self) -> None:
        renew = partial(renew_lease, policy=self._policy, term=self._term)
        self._told = await self._link.run(in_transaction(renew))

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._link.run(in_transaction(lambda connection: release_lease(connection, term=self._term)))
        except (StoreError, TimeoutError) as error:
            _log.warning("the lease could not be released and will expire by itself: %s", error)
