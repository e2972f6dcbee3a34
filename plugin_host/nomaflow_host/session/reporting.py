"""Delivers the outbox: while one report is under way the next batch fills, and is sent beside it once it is full."""

from __future__ import annotations

import asyncio
import logging

import grpc
import grpc.aio

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_host.outbox import MAX_BATCH_BYTES, AckKind, Batch, Outbox
from nomaflow_host.session.backoff import Backoff
from nomaflow_host.session.encoding import report_request
from nomaflow_host.session.failures import CallFailure, FailureKind, SessionDropped
from nomaflow_host.session.link import Link
from nomaflow_host.session.ports import Runner

__all__ = ["Reporter"]

_log = logging.getLogger(__name__)

_ONE_EVENT = 1
_ALONE = 256
_KINDS = {
    pb.ACK_STATUS_OK: AckKind.OK,
    pb.ACK_STATUS_GAP: AckKind.GAP,
    pb.ACK_STATUS_FENCED: AckKind.FENCED,
    pb.ACK_STATUS_CONFLICT: AckKind.CONFLICT,
    pb.ACK_STATUS_INVALID: AckKind.INVALID,
}


class Reporter:
    """Sends batches of one session until it ends.

    :param deadline_s: deadline of each call; after it the same batch is sent again
    """

    def __init__(
        self, *, link: Link, outbox: Outbox, runner: Runner, incarnation: str, epoch: int, deadline_s: float = 10.0
    ) -> None:
        self._link = link
        self._outbox = outbox
        self._runner = runner
        self._incarnation = incarnation
        self._epoch = epoch
        self._deadline = deadline_s
        self._alone = 0
        self._backoff = Backoff(first=0.1, most=5.0)
        self._failing = False

    async def run(self) -> None:
        """Report until cancelled: each time the previous report is answered, send what has gathered.

        :raises SessionDropped: if the kernel no longer takes reports of this session
        """
        while True:
            await self._outbox.wait()
            await self._report()

    async def run_beside(self) -> None:
        """Report until cancelled, beside `run`: send full batches, so that the kernel need not wait for them.

        :raises SessionDropped: if the kernel no longer takes reports of this session
        """
        while True:
            await self._outbox.wait_until_full()
            await self._report()

    async def _report(self) -> None:
        batch = self._outbox.next_batch(_ONE_EVENT if self._alone else MAX_BATCH_BYTES)
        if batch is not None:
            await self._deliver(batch)

    async def _deliver(self, batch: Batch) -> None:
        request = report_request(batch, incarnation=self._incarnation, epoch=self._epoch)
        try:
            response = await self._link.report(request, deadline_s=self._deadline)
        except grpc.aio.AioRpcError as error:
            await self._failed(batch, CallFailure.of(error))
            return
        if self._failing:
            _log.info("the kernel accepts reports again")
        self._failing, self._alone = False, max(self._alone - 1, 0)
        self._backoff.reset()
        self._apply(batch, response)

    def _apply(self, batch: Batch, response: pb.ReportResponse) -> None:
        unanswered = {group.attempt_key for group in batch.groups}
        for ack in response.acks:
            unanswered.discard(ack.attempt_key)
            kind = _KINDS.get(ack.status, AckKind.INVALID)
            self._settle(ack.attempt_key, ack.acknowledged_seq, kind, ack.detail)
        for key in unanswered:
            self._outbox.unanswered(key)

    def _settle(self, key: str, seq: int, kind: AckKind, detail: str) -> None:
        unwanted = self._outbox.acknowledge(key, seq, kind, detail)
        if unwanted is not None and unwanted.retry_on_lost:
            # Another attempt of the step may follow, or has followed.
            self._runner.kill(key, "host_lost", "the kernel no longer assigns this attempt to this host")

    async def _failed(self, batch: Batch, failure: CallFailure) -> None:
        for group in batch.groups:
            self._outbox.rewind(group.attempt_key, 0)
        if failure.kind in (FailureKind.ATTACH_AGAIN, FailureKind.REFUSED, FailureKind.NOT_LEADER):
            raise SessionDropped(f"the kernel accepts no reports of this session: {failure}")
        if not self._failing:
            _log.warning("a report could not be delivered and will be sent again: %s", failure)
        self._failing = True
        if failure.kind is FailureKind.MALFORMED:
            self._single_out(batch, failure)
        await asyncio.sleep(self._backoff.next())

    def _single_out(self, batch: Batch, failure: CallFailure) -> None:
        """Send events one by one for a while, to find the one that the kernel cannot take; the others get through."""
        if not self._alone:
            self._alone = _ALONE
        elif len(batch.groups) == 1:
            key = batch.groups[0].attempt_key
            self._alone = 0
            if failure.code is grpc.StatusCode.INVALID_ARGUMENT:
                self._settle(key, 0, AckKind.INVALID, str(failure))
            else:
                # The kernel's own problem, which may pass: only this attempt waits.
                self._outbox.unanswered(key)
