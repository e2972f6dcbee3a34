"""A kernel process whose store and sends have failpoints: ``python torture_kernel.py DIRECTORY [kernel's arguments]``.

It is the kernel as shipped, composed by its own `main`; only the store and the server that it is given are wrapped.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio
from failpoints import Failpoints

import nomaflow_kernel.app
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_kernel.history.lookups import ApplyResult
from nomaflow_kernel.history.states import AttemptState
from nomaflow_kernel.history.transitions import (
    AppendLog,
    DispatchAttempt,
    FinishAttempt,
    FinishRun,
    OpenAttempt,
    QueueRun,
    RequestCancel,
    StartAttempt,
    Transition,
)
from nomaflow_kernel.process.settings import read_settings
from nomaflow_kernel.rpc.handlers import EXCHANGES
from nomaflow_kernel.store.errors import StoreBusy, StoreUnavailable
from nomaflow_kernel.store.sql_store import Store

_KINDS: dict[type, str] = {
    QueueRun: "trigger",
    DispatchAttempt: "intent",
    StartAttempt: "accept",
    AppendLog: "log",
    FinishAttempt: "result",
    FinishRun: "end",
    RequestCancel: "cancel",
}


def kind_of(transition: Transition) -> str:
    """Return the name that commits of such a transition have in failpoints; empty for those that have none."""
    if isinstance(transition, OpenAttempt):
        return "intent" if transition.attempt.state is AttemptState.DISPATCHED else ""
    return _KINDS.get(type(transition), "")


class FailingStore:
    """A store whose commits can be cut short before and after, fail, or succeed and say that they may have failed."""

    def __init__(self, store: Store, points: Failpoints) -> None:
        self._store = store
        self._points = points

    def __getattr__(self, name: str) -> Any:
        """Pass everything else on."""
        return getattr(self._store, name)

    async def apply(self, transitions: Sequence[Transition], *, at_us: int) -> ApplyResult:
        """Apply a batch."""
        kinds = {kind for each in transitions if (kind := kind_of(each))}
        failure = self._points.hit(*(f"commit.{kind}.before" for kind in kinds))
        if failure == "busy":
            raise StoreBusy("another process holds it, says the torture")
        if failure == "unavailable":
            raise StoreUnavailable("the connection is gone, says the torture")
        result = await self._store.apply(transitions, at_us=at_us)
        if self._points.hit(*(f"commit.{kind}.after" for kind in kinds)) == "unknown":
            raise StoreUnavailable("the answer was lost, says the torture", outcome_unknown=True)
        return result


class _WatchedWrites:
    """The context of an Attach call; its writes have failpoints."""

    def __init__(self, context: Any, points: Failpoints) -> None:
        self._context = context
        self._points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, raw: bytes) -> None:
        """Send one message."""
        names = _names_of(gateway.AttachResponse.FromString(raw))
        self._points.hit(*(f"{name}.before" for name in names))
        await self._context.write(raw)
        self._points.hit(*(f"{name}.after" for name in names))


class _WatchedExchanges:
    """The context of a stream of requests; each request and its answer have the failpoints of a call."""

    def __init__(self, name: str, context: Any, points: Failpoints) -> None:
        self._name = name
        self._context = context
        self._points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        """Return the next request, or gRPC's mark of their end."""
        raw = await self._context.read()
        if raw is not grpc.aio.EOF:
            self._points.hit(f"{self._name}.received")
        return raw

    async def write(self, raw: bytes) -> None:
        """Send one answer."""
        self._points.hit(f"{self._name}.reply.before")
        await self._context.write(raw)
        self._points.hit(f"{self._name}.reply.after")


def _names_of(message: gateway.AttachResponse) -> set[str]:
    kind = message.WhichOneof("message") or ""
    if kind != "commands":
        return {kind}
    answers = {"Report.reply"} if message.commands.answers else set()
    return {command.WhichOneof("command") or "" for command in message.commands.commands} | answers


class Watching(grpc.aio.ServerInterceptor):
    """Puts failpoints round the handling of every call."""

    def __init__(self, points: Failpoints) -> None:
        self._points = points

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the handler with failpoints."""
        handler = await continuation(details)
        name = details.method.rpartition("/")[2]  # type: ignore[attr-defined]  # the stubs leave it out
        if handler is None or handler.unary_stream:
            return handler
        if handler.stream_unary:  # the answers go another way
            return grpc.stream_unary_rpc_method_handler(
                functools.partial(self._exchanges, "Report", handler.stream_unary)
            )
        if name in EXCHANGES:
            serve = functools.partial(self._exchanges, EXCHANGES[name], handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(serve)
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(functools.partial(self._stream, handler.stream_stream))
        return grpc.unary_unary_rpc_method_handler(functools.partial(self._unary, name, handler.unary_unary))

    async def _stream(self, serve: Any, requests: Any, context: Any) -> None:
        await serve(requests, _WatchedWrites(context, self._points))

    async def _exchanges(self, name: str, serve: Any, requests: Any, context: Any) -> Any:
        return await serve(requests, _WatchedExchanges(name, context, self._points))

    async def _unary(self, name: str, serve: Any, request: bytes, context: Any) -> bytes:
        self._points.hit(f"{name}.received")
        response: bytes = await serve(request, context)
        self._points.hit(f"{name}.reply.before")
        context.add_done_callback(lambda _: self._points.hit(f"{name}.reply.after"))
        return response


def main(arguments: list[str]) -> int:
    """Run the kernel with failpoints."""
    points = Failpoints(directory=Path(arguments[0]))
    real_store, real_server = nomaflow_kernel.app.open_store, grpc.aio.server

    def open_store(*args: Any, **kwargs: Any) -> Any:
        return FailingStore(real_store(*args, **kwargs), points)

    nomaflow_kernel.app.open_store = open_store
    grpc.aio.server = functools.partial(real_server, interceptors=(Watching(points),))
    return nomaflow_kernel.app.main(read_settings(arguments[1:], os.environ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
