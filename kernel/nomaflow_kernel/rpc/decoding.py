"""Decodes a request, which may take a hundred times as much memory as its bytes."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from nomaflow_api.bounds import REQUEST_PARTS
from nomaflow_kernel.domain.errors import BadRequest

_M = TypeVar("_M", bound=Message)


def decoded(request: type[_M], raw: bytes) -> _M:
    """Return the message of a request's bytes.

    :raises BadRequest: if they are none, or have more parts than any request needs: before anything is waited for,
        since all that wait at once are in memory
    """
    try:
        message = request.FromString(raw)
    except DecodeError:
        raise BadRequest(
            f"the request cannot be decoded as {request.DESCRIPTOR.full_name}; "
            "use stubs of the same version of the .proto files",
            field="request",
        ) from None
    if len(raw) > REQUEST_PARTS and _has_more_parts(message, REQUEST_PARTS):  # each part has a byte at least
        problem = f"the request has more than {REQUEST_PARTS:,} messages and values of lists; send several requests"
        raise BadRequest(problem, field="request")
    return message


def _has_more_parts(message: Message, most: int) -> bool:
    unread = [message]
    while unread:
        for field, value in unread.pop().ListFields():
            several = hasattr(value, "extend") or hasattr(value, "keys")  # a list, or a map of texts
            most -= len(value) if several else field.message_type is not None
            if most < 0:
                return True
            if field.message_type is not None and not hasattr(value, "keys"):
                unread.extend(value if several else (value,))
    return False
