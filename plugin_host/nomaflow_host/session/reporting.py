"""Delivers the outbox: while one report is under way the next batch fills, and is sent beside it once it is full."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from nomaflow.client.backoff import Backoff
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.letter_words import AckStatus
from nomaflow_api.v1.letters import AttemptAck, AttemptReport
from nomaflow_api.v1.sealing import LetterError, open_acks, seal
from nomaflow_host.outbox.turns import MAX_BATCH_BYTES
from nomaflow_host.session.failures import CallFailure, FailureKind, SessionDropped
from nomaflow_host.session.link import Link

if TYPE_CHECKING:
    from nomaflow_host.session.reconnecting import HostSession

_log = logging.getLogger(__name__)

_DEADLINE_SECONDS = 10.0  # after it the same batch is sent again
_END_SECONDS = 2.0  # for the end of a session to arrive after a refusal that follows from it
_ONE_EVENT = 1
_ALONE = 256


@dataclass(kw_only=True, eq=False)
class Reporter:
    """Sends batches of one session until it ends."""

    host: HostSession
    link: Link
    epoch: int

    def __post_init__(self) -> None:
        """Begin with full batches."""
        self._alone = 0
        self._backoff = Backoff(first=0.1, most=5.0)
        self._failing = False

    async def run(self) -> None:
        """Report until cancelled: each time the previous report is answered, send what has gathered.

        :raises SessionDropped: if the kernel no longer takes reports of this session
        """
        while True:
            await self.host.outbox.wait()
            await self._report()

    async def run_beside(self) -> None:
        """Report until cancelled, beside `run`: send full batches, so that the kernel need not wait for them.

        :raises SessionDropped: if the kernel no longer takes reports of this session
        """
        while True:
            await self.host.outbox.wait_until_full()
            await self._report()

    async def _report(self) -> None:
        reports = self.host.outbox.next_batch(_ONE_EVENT if self._alone else MAX_BATCH_BYTES)
        if not reports:
            return
        who = self.host.identity
        request = pb.StreamReportsRequest(
            host=who.host, incarnation=who.incarnation, epoch=self.epoch, attempts=seal(reports)
        )
        try:
            acks = await self.link.report(request, deadline_s=_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            await self._failed(reports, CallFailure.of(error))
            return
        if self._failing:
            _log.info("the kernel accepts reports again")
        self._failing, self._alone = False, max(self._alone - 1, 0)
        self._backoff.reset()
        self._apply(reports, acks)

    def _apply(self, reports: Sequence[AttemptReport], acks: bytes) -> None:
        try:
            answers = open_acks(acks)
        except LetterError as error:
            _log.warning("the kernel's answer to a report %s; it will be sent again", error)
            answers = []
        unanswered = {report.attempt_key for report in reports}
        for ack in answers:
            unanswered.discard(ack.attempt_key)
            self._settle(ack)
        for key in unanswered:
            self.host.outbox.unanswered(key)

    def _settle(self, ack: AttemptAck) -> None:
        unwanted = self.host.outbox.acknowledge(ack)
        if unwanted is not None and (unwanted.retry_on_lost or ack.status is AckStatus.CONFLICT):
            # Another attempt of the step may follow, or has followed. At a conflict the kernel has ended this one.
            reason = "the kernel no longer assigns this attempt to this host"
            self.host.runner.kill(ack.attempt_key, "host_lost", reason)

    async def _failed(self, reports: Sequence[AttemptReport], failure: CallFailure) -> None:
        if failure.kind in (FailureKind.ATTACH_AGAIN, FailureKind.REFUSED, FailureKind.NOT_LEADER):
            self._take_back(reports)
            # The kernel has ended the session, and how it did so says why: that ends this task as it arrives.
            await asyncio.sleep(_END_SECONDS)
            raise SessionDropped(f"the kernel accepts no reports of this session: {failure}")
        if not self._failing:
            _log.warning("a report could not be delivered and will be sent again: %s", failure)
        self._failing = True
        if failure.kind is FailureKind.MALFORMED and self._sets_aside(reports, failure):
            return
        self._take_back(reports)
        if failure.kind is FailureKind.MALFORMED:
            self._alone = _ALONE
        await asyncio.sleep(self._backoff.next())

    def _take_back(self, reports: Sequence[AttemptReport]) -> None:
        for report in reports:
            self.host.outbox.undelivered(report)

    def _sets_aside(self, reports: Sequence[AttemptReport], failure: CallFailure) -> bool:
        """Set the one event aside that the kernel cannot take; return False if it is not found yet.

        After a batch that the kernel cannot take, events are sent one by one for a while: the others get through.
        """
        if len(reports) != 1 or len(reports[0].events) > 1:
            return False
        key = reports[0].attempt_key
        if failure.code is grpc.StatusCode.INVALID_ARGUMENT:
            self._settle(AttemptAck(attempt_key=key, acknowledged_seq=0, status=AckStatus.INVALID, detail=str(failure)))
            return True
        # The kernel's own problem, which may pass: only this attempt waits, longer each time.
        return self.host.outbox.unanswered(key)
