"""Calls of a kernel by the names of its rpcs: the class of a request and its time limit follow from the name."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import message_factory
from google.protobuf.message import Message

from nomaflow.client.connection import Connection
from nomaflow.client.requests import filled
from nomaflow_api.deadlines import patience_seconds
from nomaflow_api.v1 import access_service_pb2, kernel_service_pb2

_SERVICES = (
    kernel_service_pb2.DESCRIPTOR.services_by_name["KernelService"],
    access_service_pb2.DESCRIPTOR.services_by_name["AccessService"],
)
_READS = ("GetKernel", "GetRun", "ListRuns", "ListJobs", "GetJob", "ListHosts", "ListWanted", "ListCallables")
_READ_SECONDS = 5.0
"""The time limit of a read. It changes nothing, so it is asked again without waiting for what became of it."""


@functools.cache
def request_class(method: str) -> type[Message]:
    """Return the class of the requests of an rpc."""
    known = {name: each for service in _SERVICES for name, each in service.methods_by_name.items()}
    return message_factory.GetMessageClass(known[method].input_type)


class Calls:
    """The base of the classes that make calls: their connection, and the name of the caller."""

    _connection: Connection
    _by: str

    async def _ask(self, method: str, /, **fields: Any) -> Any:
        """Call an rpc with a request of these fields, as `filled` takes them, and return the reply."""
        return await self._send(method, filled(request_class(method), **fields))

    async def _send(self, method: str, request: Any, traceparent: str = "") -> Any:
        seconds = _READ_SECONDS if method in _READS else patience_seconds(method)
        return await self._connection.call(method, request, seconds=seconds, traceparent=traceparent)

    async def _pages(self, method: str, /, **fields: Any) -> AsyncIterator[Any]:
        """Yield the replies of an rpc that answers page by page."""
        request: Any = filled(request_class(method), **fields)
        while True:
            reply = await self._send(method, request)
            yield reply
            request.page_token = reply.next_page_token
            if not request.page_token:
                return

    async def _whole(self, method: str, /, **fields: Any) -> Any:
        """Return all replies of such an rpc as one."""
        pages = self._pages(method, **fields)
        whole = await anext(pages)
        async for page in pages:
            whole.MergeFrom(page)
        return whole
