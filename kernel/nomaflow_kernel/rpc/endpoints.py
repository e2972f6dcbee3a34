"""The layer between gRPC and the services: decoding, admission, time limits and errors, the same for every method.

A service is an object with one plain method for each rpc: it takes the decoded request and a :class:`Caller`, returns
or yields responses and raises exceptions. It sees nothing of gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from nomaflow_api.deadlines import LONG_CALLS, answer_seconds
from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.doors import Identify
from nomaflow_kernel.access.principals import Caller, PrincipalKind
from nomaflow_kernel.access.quotas import CallsAtOnce
from nomaflow_kernel.domain.errors import BadRequest, KernelError, KernelStopping, QuotaExceeded
from nomaflow_kernel.rpc.decoding import decoded
from nomaflow_kernel.rpc.failed_calls import CallStatus, internal_status, late_error, status_of
from nomaflow_kernel.rpc.guard import Guard
from nomaflow_kernel.rpc.numbered_exchanges import Answer, ManyCalls, NumberedExchanges

_LOG = logging.getLogger(__name__)
_Context = grpc.aio.ServicerContext[Any, Any]
_T = TypeVar("_T")
_Wrapped = Callable[[Any, _Context], Awaitable[Any]]
_Call = Callable[[Any, Caller], Awaitable[Message]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoints:
    """The parts shared by all methods of all services behind one door.

    :param identify: the door's proof of who calls
    :param readmit_seconds: interval at which the access of the caller of a stream or a long call is checked again
    :param on_error: called with every kernel error that ends a call
    :param body_seconds: time limit for a request to come once its call has begun and its caller is known; None to leave
        the waiting to gRPC, which is faster and knows no limit
    :param shows_certificate: whether callers show certificates
    :param calls: the limit of each principal's calls at once; None for none
    """

    identify: Identify
    guard: Guard
    audit: AuditLog
    on_error: Callable[[KernelError], None]
    readmit_seconds: float = 4.0
    body_seconds: float | None = None
    shows_certificate: bool = False
    calls: CallsAtOnce | None = None
    waiting: set[asyncio.Task[Any]] = field(default_factory=set, init=False)

    def unary(self, method: str, call: _Call, request: type[Message]) -> _Wrapped:
        """Return the gRPC behaviour of a method with one request and one response."""
        answer = self._answering(method, call)

        async def behaviour(raw: Any, context: _Context) -> bytes:
            caller = self._caller(context)

            async def received() -> Message:
                self._count(caller, context)
                return decoded(request, await self._body(method, raw, context, caller))

            told = await answer(received, caller, context)
            if isinstance(told, Message):
                packed = told.SerializeToString()
                try:
                    self._hold(caller, len(packed), context)
                    return packed
                except QuotaExceeded as error:
                    told = self._status(method, error)
                    self._tell_refusal(method, None, told, caller)
            return await _end(context, told)

        return behaviour

    def one_way(self, method: str, call: _Call, request: type[Message]) -> _Wrapped:
        """Return the gRPC behaviour of a stream of requests that are served one after the other, each as a call is.

        Their answers go another way. An error ends the stream. While it waits for the next request, the end of the
        kernel ends it too.
        """
        answer = self._answering(method, call)

        async def serve(caller: Caller, context: _Context) -> CallStatus | None:
            while (raw := await self._next(context)) is not None:
                with self.guard.quotas.report(caller.principal, len(raw)):
                    told = await answer(partial(_received, request, raw), caller, context)
                del raw  # it may have 4 MiB, and the next may never come
                if isinstance(told, CallStatus):
                    return told
            return None

        return self._while_open(method, serve)

    def numbered(self, method: str, unary: str, calls: ManyCalls, messages: MethodDescriptor) -> _Wrapped:
        """Return the gRPC behaviour of a stream of numbered requests, each of which is answered as a call is.

        The end of the kernel ends the stream, once what is under way is answered.

        :param unary: the method that each request is for
        :param messages: describes the messages of the stream
        """
        taken, given = (message_factory.GetMessageClass(each) for each in (messages.input_type, messages.output_type))

        async def serve(caller: Caller, context: _Context) -> None:
            answer = partial(self._answers, unary, calls, caller)
            exchanges = NumberedExchanges(answer=answer, takes=calls.takes, write=context.write, response=given)
            await exchanges.serve(self._messages(self._next, taken, context, caller))

        return self._while_open(method, serve)

    def _while_open(self, method: str, serve: Callable[[Caller, _Context], Awaitable[CallStatus | None]]) -> _Wrapped:
        """Return the gRPC behaviour of a stream of requests, which lasts as long as its caller has access.

        :param serve: returns the status of a request that was refused and ends the stream, None for its normal end
        """

        async def behaviour(_: Any, context: _Context) -> bytes:
            caller = self._caller(context)
            try:
                self.guard.readmit(method, caller)
                self._count(caller, context)
                with self.guard.quotas.stream(caller.principal):
                    status = await self._while_admitted(method, context, caller, serve(caller, context))
            except Exception as error:  # noqa: BLE001  # every error becomes a status; none is dropped
                status = self._status(method, error)
                self._tell_refusal(method, None, status, caller)
            return b"" if status is None else await _end(context, status)

        return behaviour

    async def _messages(
        self,
        read: Callable[[_Context], Awaitable[bytes | None]],
        message: type[Message],
        context: _Context,
        caller: Caller,
    ) -> AsyncIterator[Message]:
        """Yield the messages of a stream until its end."""
        while (raw := await read(context)) is not None:
            self.guard.quotas.message(caller.principal, len(raw))  # before it costs anything
            yield decoded(message, raw)
            del raw

    async def _next(self, context: _Context) -> bytes | None:
        """Return the next request of a stream; None at its end. gRPC's own iterator would keep the last one meanwhile.

        :raises KernelStopping: if the kernel stops before it has come
        """
        task = asyncio.current_task()
        assert task is not None
        self.waiting.add(task)
        try:
            return await _read(context)
        except asyncio.CancelledError:
            if task in self.waiting:
                raise
            task.uncancel()
            raise KernelStopping from None
        finally:
            self.waiting.discard(task)

    def end_waiting(self) -> None:
        """End the streams that wait for a request: the kernel stops."""
        waiting = list(self.waiting)
        self.waiting.clear()
        for task in waiting:
            task.cancel()

    def _answering(
        self, method: str, call: _Call
    ) -> Callable[[Callable[[], Awaitable[Message]], Caller, _Context], Awaitable[Message | CallStatus]]:
        """Return the function that answers one request of a method, or says why it is not answered."""
        name = method.rpartition("/")[2]
        seconds, takes_long = answer_seconds(name), name in LONG_CALLS

        async def answer(
            received: Callable[[], Awaitable[Message]], caller: Caller, context: _Context
        ) -> Message | CallStatus:
            message, audited, limit = None, None, None
            try:
                rule = self.guard.admit(method, caller)
                message = await received()
                async with asyncio.timeout(seconds) as limit:
                    await self.guard.check(rule, message, caller)
                    audited = self.audit.begin(method, rule, message, caller)
                    response = await (
                        self._while_admitted(method, context, caller, call(message, caller))
                        if takes_long
                        else call(message, caller)
                    )
                    if audited is not None:
                        await self.audit.done(audited, response, caller)
                return response
            except asyncio.CancelledError:
                limit = None  # it knows the task, whose error knows this frame: a circle, with the request in it
                if audited is not None and audited.row_is_due:
                    self.audit.refused(method, message, "CANCELLED", caller)
                raise
            except TimeoutError as error:
                status = self._status(method, late_error(name, seconds) if limit and limit.expired() else error)
            except Exception as error:  # noqa: BLE001  # every error becomes a status; none is dropped
                status = self._status(method, error)
            self._tell_refusal(method, message, status, caller)
            return status

        return answer

    async def _answers(
        self, method: str, calls: ManyCalls, caller: Caller, requests: Sequence[Message]
    ) -> Sequence[Answer]:
        """Answer requests of a method together; each is admitted, counted and refused by itself."""
        name = method.rpartition("/")[2]
        seconds = answer_seconds(name)
        told: dict[int, Answer] = {}
        admitted: dict[int, Message] = {}
        for index, request in enumerate(requests):
            try:
                rule = self.guard.admit(method, caller)
                await self.guard.check(rule, request, caller)
                admitted[index] = request
            except Exception as error:  # noqa: BLE001  # every error becomes a status; none is dropped
                told[index] = self._status(method, error)
        if admitted:
            asked = list(admitted.values())
            self.audit.begin(method, rule, asked[0], caller)
            limit = None
            try:
                async with asyncio.timeout(seconds) as limit:
                    answers = await calls.answers(asked, caller)
            except asyncio.CancelledError:
                limit = None  # as in _answering
                raise
            except TimeoutError as error:
                late = late_error(name, seconds) if limit and limit.expired() else error
                told.update(dict.fromkeys(admitted, self._status(method, late)))
            except Exception as error:  # noqa: BLE001  # every error becomes a status; none is dropped
                told.update(dict.fromkeys(admitted, self._status(method, error)))
            else:
                for index, given in zip(admitted, answers, strict=True):
                    told[index] = self._status(method, given) if isinstance(given, KernelError) else given
        for index, status in told.items():
            if isinstance(status, CallStatus):
                self._tell_refusal(method, requests[index], status, caller)
        return [told[index] for index in range(len(requests))]

    def stream(
        self, method: str, call: Callable[[Any, Caller], AsyncIterator[Message]], request: type[Message], *, many: bool
    ) -> _Wrapped:
        """Return the gRPC behaviour of a method with many responses.

        :param many: whether it takes many requests too
        """

        async def behaviour(raw: Any, context: _Context) -> None:
            message, caller = None, self._caller(context)
            try:
                rule = self.guard.admit(method, caller)
                self._count(caller, context)
                with self.guard.quotas.stream(caller.principal):
                    if many:
                        responses = call(self._messages(_read, request, context, caller), caller)
                    else:
                        message = decoded(request, await self._body(method, raw, context, caller))
                        await self.guard.check(rule, message, caller)
                        responses = call(message, caller)
                    await self._while_admitted(method, context, caller, self._send_all(responses, context, caller))
                return
            except Exception as error:  # noqa: BLE001  # every error becomes a status; none is dropped
                status = self._status(method, error)
            self._tell_refusal(method, message, status, caller)
            await _end(context, status)

        return behaviour

    async def _body(self, method: str, raw: Any, context: _Context, caller: Caller) -> Any:
        """Return the request of a call, and count it. gRPC's own iterator would keep it: both hold each other.

        :param raw: what gRPC has read, if it is to
        :raises BadRequest: if it does not come in time
        :raises NotAuthenticated: if the caller's credential was withdrawn while others had their turn
        """
        if self.body_seconds is None:
            self.guard.quotas.request(caller.principal, len(raw))
            return raw
        assert self.calls is not None  # a door that has one has both
        turn = self.calls.turn(caller)
        waits = turn.locked()
        async with turn:
            if waits:  # for minutes, if those before it never send theirs
                self.guard.readmit(method, self._caller(context))
            body = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.body_seconds):
                    body = await _read(context)
            if body is None:
                problem = f"no request came within {self.body_seconds:g} seconds; send it with the call"
                raise BadRequest(problem, field="request")
            self.guard.quotas.request(caller.principal, len(body))
        return body

    def _tell_refusal(self, method: str, request: Message | None, status: CallStatus, caller: Caller) -> None:
        self.audit.refused(method, request, status.reason, caller, error_id=status.error_id, about=status.about)

    def _caller(self, context: _Context) -> Caller:
        told = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        certificate = b"".join(context.auth_context().get("x509_pem_cert", ())) if self.shows_certificate else b""
        principal = self.identify(told.get("authorization", ""), certificate)
        return Caller(principal=principal, peer=context.peer(), traceparent=told.get("traceparent", ""))

    def _count(self, caller: Caller, context: _Context) -> None:
        """Count a call until it is over. It is not before the caller takes the answer, and some never do."""
        if self.calls is not None:
            end = self.calls.begin(caller)
            context.add_done_callback(lambda _: end())  # type: ignore[arg-type]  # the stub asks for a class

    def _hold(self, caller: Caller, size: int, context: _Context) -> None:
        """Count an answer until the caller has taken it."""
        if self.calls is not None:
            end = self.calls.answer(caller, size)
            context.add_done_callback(lambda _: end())  # type: ignore[arg-type]  # as above

    async def _send_all(self, responses: AsyncIterator[Message], context: _Context, caller: Caller) -> None:
        """Send the responses of a stream, each as an answer: it counts until it is taken. A host's orders do not."""
        calls = None if caller.principal.kind is PrincipalKind.HOST else self.calls
        # Closed here and not by the garbage collector, so that a client that leaves is released at once.
        async with aclosing(responses) as open_responses:  # type: ignore[type-var]  # services yield: these are generators
            async for response in open_responses:
                packed = response.SerializeToString()
                del response  # it may have 32 MiB, and the caller may never take it
                with contextlib.ExitStack() as taken:
                    if calls is not None:
                        taken.callback(calls.answer(caller, len(packed)))
                    await context.write(packed)

    async def _while_admitted(self, method: str, context: _Context, caller: Caller, working: Awaitable[_T]) -> _T:
        """Serve a stream or a long call as long as its caller has access: a credential can be withdrawn meanwhile."""
        if caller.principal.is_owner:
            return await working
        task = asyncio.ensure_future(working)
        try:
            while not task.done():
                await asyncio.wait((task,), timeout=self.readmit_seconds)
                if not task.done():
                    self.guard.readmit(method, self._caller(context))
        finally:
            task.cancel()
            await asyncio.wait((task,))
        return task.result()

    def _status(self, method: str, error: Exception) -> CallStatus:
        """Return the status for an error. It forgets the frames that it passed: some know it, and hold the request."""
        status = None
        if isinstance(error, KernelError):
            status = status_of(error)
            self.on_error(error)
        if status is None or status.code is grpc.StatusCode.INTERNAL:
            status = internal_status(secrets.token_hex(8))
            _LOG.error("error id %s in %s", status.error_id, method, exc_info=error)
        else:
            _LOG.debug("%s ends with %s: %s", method, status.reason, status.message)
        error.__traceback__ = None  # such a circle is collected rarely, and a request may take 200 MiB
        return status


async def _end(context: _Context, status: CallStatus) -> NoReturn:
    """End a call with a status.

    gRPC keeps the error that it raises with the call, and the error keeps the frames that it passes, which know the
    call. Such garbage is collected rarely: the request in it would stay in memory, and some have 4 MiB.
    """
    try:
        await context.abort(status.code, status.message, status.trailing)
    except grpc.aio.AbortError as error:
        context.add_done_callback(lambda _, raised=error: raised.with_traceback(None))  # type: ignore[arg-type]
        raise


async def _read(context: _Context) -> bytes | None:
    raw = await context.read()
    return None if raw is grpc.aio.EOF else raw


async def _received(request: type[Message], raw: bytes) -> Message:
    return decoded(request, raw)
