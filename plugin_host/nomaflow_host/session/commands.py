"""Carries out the kernel's commands on a session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import grpc.aio

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.letter_words import VerdictAction
from nomaflow_api.v1.letters import CancelOrder, DispatchOrder
from nomaflow_api.v1.sealing import LetterError, open_cancel, open_dispatch, open_verdicts
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.session.failures import SessionDropped
from nomaflow_host.supervisor.values import LoadOutcome, Refused
from nomaflow_telemetry.process_log import attempt_fields

if TYPE_CHECKING:
    from nomaflow_host.process.runner import SupervisedRunner

_log = logging.getLogger(__name__)
_SAME_VERSION = "install the same version on both"


class Commands:
    """Handles the commands of one session, in order. Slow ones run as tasks beside it.

    :param epoch: commands of a lower one are ignored
    :param given: set once an attempt has been given to the host, accepted or refused
    :param on_reloaded: called with each new generation after a reload, even if the session has ended meanwhile
    :param answer_check: performs a check and sends its outcome
    :param answer_inspect: looks at an attempt and sends what it sees
    :param answer_reload: sends the outcome of a reload, once the new manifest is introduced
    """

    def __init__(
        self,
        *,
        runner: SupervisedRunner,
        outbox: Outbox,
        epoch: int,
        given: asyncio.Event,
        on_reloaded: Callable[[], None],
        answer_reload: Callable[[int, LoadOutcome], Awaitable[None]],
        answer_check: Callable[[int, pb.CheckCommand], Coroutine[Any, Any, None]],
        answer_inspect: Callable[[int, str], Coroutine[Any, Any, None]],
    ) -> None:
        self._runner = runner
        self._outbox = outbox
        self._epoch = epoch
        self._given = given
        self._on_reloaded = on_reloaded
        self._answer_reload = answer_reload
        self._answer_check = answer_check
        self._answer_inspect = answer_inspect
        self._tasks: set[asyncio.Task[None]] = set()

    def welcome(self, welcome: pb.Welcome) -> None:
        """Apply the kernel's decision about each attempt of the inventory.

        :raises LetterError: if it cannot be read
        """
        for verdict in open_verdicts(welcome.verdicts) if welcome.verdicts else ():
            key = verdict.attempt_key
            if verdict.action is VerdictAction.FORGET:
                self._outbox.forget(key)
                continue
            self._outbox.rewind(key, verdict.acknowledged_seq)
            if verdict.action is VerdictAction.CANCEL:
                self._runner.cancel(verdict.cancel or CancelOrder(attempt_key=key))
            elif verdict.action is VerdictAction.KILL:
                self._runner.kill(key, "host_lost", "the kernel has given up this host and reassigned the attempt")

    def handle(self, batch: pb.CommandBatch) -> None:
        """Carry out commands."""
        for command in batch.commands:
            try:
                self._one(command)
            except LetterError as error:
                _log.warning("the kernel sent a command that this host cannot read; %s: %s", _SAME_VERSION, error)

    async def close(self) -> None:
        """Stop waiting for slow commands; they continue without an answer."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _one(self, command: pb.Command) -> None:
        kind = command.WhichOneof("command")
        if kind == "dispatch":
            self._dispatch(open_dispatch(command.dispatch))
        elif kind == "cancel":
            self._runner.cancel(open_cancel(command.cancel))
        elif kind == "reload":
            self._beside(self._reload(command.command_seq, force=command.reload.force), "reload")
        elif kind == "check":
            self._beside(self._answer_check(command.command_seq, command.check), "check")
        elif kind == "inspect":
            self._beside(self._answer_inspect(command.command_seq, command.inspect.attempt_key), "inspect")
        else:
            _log.warning("the kernel sent a command that this host does not know; %s", _SAME_VERSION)

    def _dispatch(self, order: DispatchOrder) -> None:
        key = order.attempt_key
        if order.epoch < self._epoch:
            _log.warning("ignoring a dispatch of epoch %d; the current epoch is %d", order.epoch, self._epoch)
            return
        if not self._outbox.accept(order):
            _log.info("dispatched again, reporting its state", extra=attempt_fields(key))
            return
        self._given.set()
        try:
            if self._outbox.saturated:
                raise Refused("host_full", "the host's spill file or its disk is full")
            self._runner.accept(order)
        except Refused as refusal:
            _log.warning("refused: %s", refusal, extra=attempt_fields(key))
            self._outbox.refuse(key, str(refusal))

    async def _reload(self, command_seq: int, *, force: bool) -> None:
        # The load itself continues if the session ends meanwhile: half a load would be worse.
        loading = asyncio.ensure_future(self._runner.reload(force=force))
        loading.add_done_callback(self._reloaded)
        outcome = await asyncio.shield(loading)
        await self._answer_reload(command_seq, outcome)

    def _reloaded(self, loading: asyncio.Future[LoadOutcome]) -> None:
        # A kernel that has seen this manifest before would not ask for it when the host is back.
        if not loading.cancelled() and loading.exception() is None and loading.result().accepted:
            self._on_reloaded()

    def _beside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, (SessionDropped, grpc.aio.AioRpcError)):
            _log.error("%s failed", task.get_name(), exc_info=error)
