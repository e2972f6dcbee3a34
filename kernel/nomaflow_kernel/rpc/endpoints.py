"""The layer between gRPC and the services: decoding, admission, time limits and errors, the same for every method.

A service is an object with one plain method for each rpc: it takes the decoded request and a :class:`Caller`, returns
or yields responses and raises exceptions. It sees nothing of gRPC.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.doors import Identify, Shown
from nomaflow_kernel.access.guard import Guard
from nomaflow_kernel.access.principals import Caller, NotPermitted, PrincipalKind
from nomaflow_kernel.domain.errors import BadRequest, KernelError
from nomaflow_kernel.rpc.calls_at_once import CallsAtOnce
from nomaflow_kernel.rpc.errors import CallStatus, deadline_status, internal_status, status_of

__all__ = ["Endpoints", "elsewhere_methods", "methods_of", "service_methods"]

_LOG = logging.getLogger(__name__)
_DEADLINES: Mapping[str, float] = {
    "ReloadHost": 75.0,
    "IntroduceManifest": 30.0,
    "TriggerRuns": 30.0,
    "VerifyAudit": 600.0,
}
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")
_Context = grpc.aio.ServicerContext[Any, Any]
_T = TypeVar("_T")
_Wrapped = Callable[[Any, _Context], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoints:
    """The parts shared by all methods of all services behind one door.

    :param identify: the door's proof of who calls
    :param deadline_seconds: time limit of a unary call; ``deadlines`` has the exceptions, by method name
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
    deadline_seconds: float = 15.0
    readmit_seconds: float = 4.0
    body_seconds: float | None = None
    shows_certificate: bool = False
    calls: CallsAtOnce | None = None
    deadlines: Mapping[str, float] = field(default_factory=lambda: _DEADLINES)

    def unary(self, method: str, call: Callable[[Any, Caller], Awaitable[Message]], request: type[Message]) -> _Wrapped:
        """Return the gRPC behaviour of a method with one request and one response."""
        name = method.rpartition("/")[2]
        seconds, takes_long = self.deadlines.get(name, self.deadline_seconds), name in self.deadlines

        async def behaviour(raw: Any, context: _Context) -> bytes:
            message, caller, audited = None, self._caller(context), None
            try:
                rule = self.guard.admit(method, caller)
                self._count(caller, context)
                if self.body_seconds is not None:
                    raw = await _body(raw, self.body_seconds)
                message = _decoded(request, raw)
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
                return response.SerializeToString()
            except asyncio.CancelledError:
                if audited is not None and audited.row_is_due:
                    self.audit.refused(method, message, "CANCELLED", caller)
                raise
            except TimeoutError as error:
                status = deadline_status(name, seconds) if limit.expired() else None
                status = status or self._status(method, error)
            except Exception as error:  # noqa: BLE001  # every error becomes a status; none is dropped
                status = self._status(method, error)
            self._tell_refusal(method, message, status, caller)
            return await _refused(context, status)

        return behaviour

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
                with self.guard.stream(caller):
                    if many:
                        responses = call(self._decoded_all(request, raw, caller), caller)
                    else:
                        if self.body_seconds is not None:
                            raw = await _body(raw, self.body_seconds)
                        message = _decoded(request, raw)
                        await self.guard.check(rule, message, caller)
                        responses = call(message, caller)
                    await self._while_admitted(method, context, caller, _send_all(responses, context))
                return
            except Exception as error:  # noqa: BLE001  # every error becomes a status; none is dropped
                status = self._status(method, error)
            self._tell_refusal(method, message, status, caller)
            await _end(context, status)

        return behaviour

    async def _decoded_all(
        self, request: type[Message], raws: AsyncIterator[bytes], caller: Caller
    ) -> AsyncIterator[Message]:
        async with _closing(raws) as messages:
            async for raw in messages:
                self.guard.message(caller, len(raw))  # before it costs anything
                yield _decoded(request, raw)

    def _tell_refusal(self, method: str, request: Message | None, status: CallStatus, caller: Caller) -> None:
        self.audit.refused(method, request, status.reason, caller, error_id=status.error_id, about=status.about)

    def _caller(self, context: _Context) -> Caller:
        authorization, traceparent = "", ""
        for key, value in context.invocation_metadata() or ():
            if isinstance(value, str) and key == "authorization":
                authorization = value
            elif isinstance(value, str) and key == "traceparent":
                traceparent = value
        peer = context.peer()
        certificate = b"".join(context.auth_context().get("x509_pem_cert", ())) if self.shows_certificate else b""
        shown = Shown(peer=peer, authorization=authorization, certificate=certificate)
        return Caller(principal=self.identify(shown), peer=peer, traceparent=traceparent)

    def _count(self, caller: Caller, context: _Context) -> None:
        """Count a call until it is over. It is not before the caller takes the answer, and some never do."""
        if self.calls is not None:
            end = self.calls.begin(caller)
            context.add_done_callback(lambda _: end())  # type: ignore[arg-type]  # the stub asks for a class

    async def _while_admitted(self, method: str, context: _Context, caller: Caller, working: Awaitable[_T]) -> _T:
        """Serve a stream or a long call as long as its caller has access: a credential can be withdrawn meanwhile."""
        if caller.principal.kind is PrincipalKind.OWNER:
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
        try:
            return task.result()
        finally:
            del task  # else its error, this frame and the request would keep each other in memory

    def _status(self, method: str, error: Exception) -> CallStatus:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if isinstance(error, KernelError):
            status = status_of(error)
            self.on_error(error)
            if status.code is not grpc.StatusCode.INTERNAL:
                _LOG.debug("%s ends with %s: %s", method, status.reason, status.message)
                return status
        error_id = secrets.token_hex(8)
        _LOG.error("error id %s in %s", error_id, method, exc_info=error)
        return internal_status(error_id)


def methods_of(descriptor: ServiceDescriptor, *parts: object) -> Mapping[str, Callable[..., Any]]:
    """Return the method for each rpc: the one with its name in snake case, of the first part that has it."""
    names = {rpc.name: _CAPITAL.sub("_", rpc.name).lower() for rpc in descriptor.methods}
    return {rpc: getattr(part, name) for part in reversed(parts) for rpc, name in names.items() if hasattr(part, name)}


def service_methods(
    descriptor: ServiceDescriptor,
    methods: Mapping[str, Callable[..., Any]],
    endpoints: Endpoints,
    *,
    may_grow: bool = False,
) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """Return the handler of each rpc of a service.

    :param methods: name of each rpc of the descriptor → the method that serves it
    :param may_grow: True for a third party's service, which may have more rpcs in a later release of its package: those
        are answered UNIMPLEMENTED
    :raises ValueError: if the names do not match
    """
    known = {method.name: method for method in descriptor.methods}
    if known.keys() != methods.keys() and not (may_grow and methods.keys() <= known.keys()):
        raise ValueError(f"{descriptor.full_name} has {sorted(known)}, served are {sorted(methods)}")
    return {
        name: _method_handler(known[name], f"/{descriptor.full_name}/{name}", call, endpoints)
        for name, call in methods.items()
    }


def elsewhere_methods(
    descriptor: ServiceDescriptor, endpoints: Endpoints
) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """Return handlers of a service that a door does not have: they say what access says of a call, and do nothing.

    So a token that is shown to hosts' calls, or a host's certificate to clients' calls, is refused as such.
    """
    methods = dict.fromkeys((method.name for method in descriptor.methods), _elsewhere)
    return service_methods(descriptor, methods, endpoints)


def _elsewhere(_request: Any, caller: Caller) -> Any:
    raise NotPermitted(caller.principal, "call", "this service at this door")


def _method_handler(
    method: MethodDescriptor, path: str, call: Callable[..., Any], endpoints: Endpoints
) -> grpc.RpcMethodHandler[Any, Any]:
    # Requests come undecoded, so that a malformed one gets a clear answer.
    request = message_factory.GetMessageClass(method.input_type)
    # With a time limit for the request we read it ourselves, once the caller is known: gRPC then hands over a stream.
    reads = endpoints.body_seconds is not None
    if method.client_streaming or (method.server_streaming and reads):
        behaviour = endpoints.stream(path, call, request, many=method.client_streaming)
        return grpc.stream_stream_rpc_method_handler(behaviour)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(endpoints.stream(path, call, request, many=False))
    unary = endpoints.unary(path, call, request)
    return grpc.stream_unary_rpc_method_handler(unary) if reads else grpc.unary_unary_rpc_method_handler(unary)


async def _body(raws: AsyncIterator[bytes], seconds: float) -> bytes:
    """Return the request of a call, and keep nothing of it: gRPC's iterator and what it iterates hold each other.

    :raises BadRequest: if it does not come in time
    """
    try:
        async with asyncio.timeout(seconds), _closing(raws) as messages:
            return await anext(messages)
    except (TimeoutError, StopAsyncIteration):
        raise BadRequest(
            f"no request came within {seconds:g} seconds; send it with the call", field="request"
        ) from None


def _closing(raws: AsyncIterator[bytes]) -> aclosing[AsyncGenerator[bytes, None]]:
    return aclosing(aiter(raws))  # type: ignore[arg-type]  # gRPC's iterators are generators


async def _send_all(responses: AsyncIterator[Message], context: _Context) -> None:
    # Closed here and not by the garbage collector, so that a client that leaves is released at once.
    async with aclosing(responses) as open_responses:  # type: ignore[type-var]  # services yield: these are generators
        async for response in open_responses:
            await context.write(response.SerializeToString())


async def _end(context: _Context, status: CallStatus) -> None:
    """End a call with a status.

    gRPC keeps the error that it raises with the call, and the error keeps the frames that it passes, which know the
    call. Such garbage is collected rarely: the request in it would stay in memory, and some have 4 MiB.
    """
    try:
        await context.abort(status.code, status.message, status.trailing)
    except grpc.aio.AbortError as error:
        context.add_done_callback(lambda _, raised=error: raised.with_traceback(None))  # type: ignore[arg-type]
        raise


async def _refused(context: _Context, status: CallStatus) -> bytes:
    await _end(context, status)
    return b""  # never reached: abort raises


def _decoded(request: type[Message], raw: bytes) -> Message:
    try:
        return request.FromString(raw)
    except DecodeError:
        raise BadRequest(
            f"the request cannot be decoded as {request.DESCRIPTOR.full_name}; "
            "use stubs of the same version of the .proto files",
            field="request",
        ) from None
