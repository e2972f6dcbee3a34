"""gRPC's server for doors that strangers reach: it survives calls of unknown methods.

Since version 1.84 the task of grpc.aio that takes the calls decodes the names of their methods. A name that is not
UTF-8 ends that task, and with it the server: a single call, from anybody, would close a door until the kernel's next
start. gRPC's core compares the names of registered methods as bytes. So all methods of a door are registered, and a
call of another one is answered before its name is decoded.

gRPC also writes an error and a traceback into the log for each header that is not UTF-8, with the header, and for each
answer that its caller does not wait for. Such lines, which strangers could cause without end, are left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import grpc.aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # compiled: it has no types

Methods = Mapping[str, "dict[str, grpc.RpcMethodHandler[Any, Any]]"]
"""The full name of each service → its rpcs → their handlers."""

_LOG_OF_GRPC = logging.getLogger(cygrpc.__name__)
_NO_METHOD = "unknown"


class _RegisteredMethodsServer(cygrpc.AioServer):  # type: ignore[misc]
    """Hands on calls of registered methods only. All others are answered here, whatever their names."""

    async def _request_call(self) -> None:
        loop, none = asyncio.get_running_loop(), cygrpc._MethodResolver([], {})  # noqa: SLF001  # see above
        answering: set[asyncio.Task[None]] = set()
        while True:
            call = await super()._request_call()
            answer = cygrpc._handle_rpc(_NO_METHOD, none, (), call, loop, False)  # noqa: FBT003, SLF001
            task = loop.create_task(cygrpc._schedule_rpc_coro(answer, call, loop, _NO_METHOD))  # noqa: SLF001
            answering.add(task)
            task.add_done_callback(answering.discard)


def server_for_strangers(methods: Methods, *, options: Sequence[tuple[str, Any]], calls: int) -> grpc.aio.Server:
    """Return a server of some methods.

    :param options: of gRPC
    :param calls: at once
    """
    _LOG_OF_GRPC.addFilter(_is_ours)
    usual = cygrpc.AioServer
    registers = hasattr(usual, "add_registered_method_handlers")
    if registers:
        cygrpc.AioServer = _RegisteredMethodsServer  # grpc.aio.Server takes it from there
    try:
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=calls)
    finally:
        cygrpc.AioServer = usual
    for service, handlers in methods.items():
        if registers:
            server.add_registered_method_handlers(service, handlers)
        else:
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    return server


def _is_ours(record: logging.LogRecord) -> bool:
    """Return whether a log record of gRPC is about anything other than a caller that sends nonsense or leaves."""
    return not (record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError | cygrpc.ExecuteBatchError))
