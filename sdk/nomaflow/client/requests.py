"""Builds requests of KernelService from Python values, and the span that a trace shows for them."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any, TypeVar

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from nomaflow.client.errors import InvalidRequest
from nomaflow_api.v1 import kernel_service_pb2 as service
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.lossless_json import ValueCodecError, encode_tree
from nomaflow_api.v1.message_codec import timestamp

_M = TypeVar("_M", bound=Message)
_EXPECTED: Mapping[int, str] = {
    FieldDescriptor.TYPE_STRING: "a text of Unicode characters",
    FieldDescriptor.TYPE_BOOL: "True or False",
    FieldDescriptor.TYPE_UINT32: f"a whole number from 0 to {2**32 - 1:,}",
    FieldDescriptor.TYPE_UINT64: f"a whole number from 0 to {2**64 - 1:,}",
    FieldDescriptor.TYPE_MESSAGE: "a datetime",
    FieldDescriptor.TYPE_ENUM: "a name",
}
"""What a field of a type holds, for a person."""
_UNFIT = (TypeError, ValueError, OverflowError, AttributeError)
"""The errors of a message whose field cannot hold a value."""
_MADE = frozenset({"params", "op_kwargs", "steps", "request_id", "kind", "by", "overlap"})
"""The attributes of orders that a message has in another form."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TriggerOrder:
    """One run to start.

    :param params: override the job's params; JSON values, dates and times
    :param secret_keys: those of *params* that must be kept secret; the run is refused if the job does not list each in
        its ``secret_params``
    :param op_kwargs: by step name; override every other layer
    :param steps: by step name: on or off for this run
    :param request_id: the idempotency key; if empty a new one is made, so that the client may always repeat the call
    :param kind: ``api``, ``cli`` or ``manual``
    :param by: the caller's name; the client's own ``by`` if empty
    :param overlap: ``allow`` to start even if the job's overlap policy would not; empty for that policy
    :param validate_only: check the order and start nothing: bad orders are refused, others get an answer without run id
    """

    job_id: str
    params: Mapping[str, Any] = field(default_factory=dict)
    op_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: Mapping[str, bool] = field(default_factory=dict)
    preset: str = ""
    log_level: str = ""
    request_id: str = ""
    kind: str = "api"
    by: str = ""
    overlap: str = ""
    validate_only: bool = False
    secret_keys: Sequence[str] = ()

    def to_request(self, *, default_by: str) -> service.TriggerRunRequest:
        """Return the message.

        :raises InvalidRequest: if a value cannot be written as JSON, or another field cannot be sent
        """
        return _of_order(service.TriggerRunRequest, self, default_by, trigger_kind=self.kind)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayOrder:
    """One finished run to run again.

    :param from_step: starts at this step, with the outputs of those before; empty for the first
    :param from_failed_step: starts at the step that did not succeed; not with ``from_step``
    :param params: override those of the run; JSON values, dates and times
    :param op_kwargs: by step name: override those of the run
    :param steps: by step name: on or off, over what the run had; not on before the step that it starts at
    :param log_level: empty for the run's
    :param request_id: the idempotency key; if empty a new one is made
    :param by: the caller's name; the client's own ``by`` if empty
    :param overlap: ``allow`` to start even if the job's overlap policy would not; empty for that policy
    :param current_definition: run the job as it is defined now instead of as it was
    :param validate_only: check the order and start nothing: bad orders are refused, others get an answer without run id
    """

    run_id: str
    from_step: str = ""
    from_failed_step: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    op_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: Mapping[str, bool] = field(default_factory=dict)
    log_level: str = ""
    request_id: str = ""
    by: str = ""
    overlap: str = ""
    current_definition: bool = False
    validate_only: bool = False

    def to_request(self, *, default_by: str) -> service.ReplayRunRequest:
        """Return the message.

        :raises InvalidRequest: if a value cannot be written as JSON, or another field cannot be sent
        """
        return _of_order(service.ReplayRunRequest, self, default_by)


def _of_order(kind: type[_M], order: TriggerOrder | ReplayOrder, default_by: str, **more: Any) -> _M:
    """Return the message of an order: most of its attributes are fields of the message, too."""
    values = {
        step: to_json_bytes(kwargs, name=f"op_kwargs of step {step!r}") for step, kwargs in order.op_kwargs.items()
    }
    return filled(
        kind,
        request_id=order.request_id or new_request_id(),
        params_json=to_json_bytes(order.params, name="params"),
        step_values=[filled(run_pb2.StepValues, step=step, op_kwargs_json=text) for step, text in values.items()],
        step_switches=[filled(run_pb2.StepSwitch, step=step, enabled=on) for step, on in order.steps.items()],
        by=order.by or default_by,
        overlap=order.overlap or None,
        **more,
        **{name: getattr(order, name) for name in order.__slots__ if name not in _MADE},
    )


def filled(kind: type[_M], /, **fields: Any) -> _M:
    """Return a message with these fields.

    A datetime becomes a timestamp, the name of an enum's constant, without its prefix, the constant, and None leaves
    its field unset.

    :raises InvalidRequest: if a field cannot hold its value, or two are given of which a message has one
    :raises ValueError: if there is no such field
    """
    for choice in kind.DESCRIPTOR.oneofs:
        if len(given := [each.name for each in choice.fields if fields.get(each.name) is not None]) > 1:
            raise InvalidRequest(f"{' and '.join(given)} are both given, expected at most one of them")
    try:
        return _made(kind, fields)
    except _UNFIT as error:
        if fields.keys() - kind.DESCRIPTOR.fields_by_name.keys():
            raise
        raise _refused(kind, fields, error) from error


def _made(kind: type[_M], fields: Mapping[str, Any]) -> _M:
    lists, enums = _forms(kind.DESCRIPTOR)
    made = dict(fields)
    for name, value in fields.items():
        if isinstance(value, datetime):
            made[name] = timestamp(value)
        elif isinstance(value, str) and name in lists:
            raise TypeError(name)  # else it would be a list of its letters
        elif name in enums and value is not None:
            enum = enums[name]
            made[name] = _number(enum, value) if isinstance(value, str) else [_number(enum, each) for each in value]
    return kind(**made)


def _refused(kind: type[Message], fields: Mapping[str, Any], error: Exception) -> InvalidRequest:
    """Return the error about the first field that cannot be made."""
    known, (lists, _) = kind.DESCRIPTOR.fields_by_name, _forms(kind.DESCRIPTOR)
    for name, value in fields.items():
        try:
            _made(kind, {name: value})
        except _UNFIT:
            of_type = _EXPECTED.get(known[name].type, "another value")
            expected = f"a list, each {of_type}" if name in lists else of_type
            return InvalidRequest(f"{name} is {repr(value)[:80]}, expected {expected}", fields={name: expected})
    return InvalidRequest(str(error))


@functools.cache
def _forms(descriptor: Descriptor) -> tuple[frozenset[str], Mapping[str, Any]]:
    """Return the names of the repeated fields of a class of messages, and the enum of each field that has one."""
    empty, known = message_factory.GetMessageClass(descriptor)(), descriptor.fields
    lists = frozenset(field.name for field in known if hasattr(getattr(empty, field.name), "extend"))
    return lists, {field.name: field.enum_type for field in known if field.enum_type is not None}


def _number(enum: Any, name: str) -> int:
    numbers = _numbers(enum)
    number = numbers.get(name.upper())
    if number is None:
        noun = re.sub("(?<=[a-z])(?=[A-Z])", " ", enum.name).lower()
        raise InvalidRequest(f"unknown {noun} {name!r}", fix=f"use one of {', '.join(numbers).lower()}")
    return number


@functools.cache
def _numbers(enum: Any) -> Mapping[str, int]:
    """Return the numbers of an enum's constants but the first, by their names without the prefix."""
    unspecified, *others = enum.values
    prefix = unspecified.name.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix): value.number for value in others}


def new_request_id() -> str:
    """Return a new unique key."""
    return uuid.uuid4().hex


def to_json_bytes(value: Mapping[str, Any], *, name: str) -> bytes:
    """Return a mapping as JSON, empty for an empty one; dates and times become tags of `nomaflow_api.v1.lossless_json`.

    :raises InvalidRequest: if a value has no JSON form
    """
    if not value:
        return b""
    try:
        return json.dumps(value, default=_tagged, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"{name} cannot be sent as JSON: {error}",
            fix="give numbers, strings, booleans, None, dates, times, lists and dicts",
        ) from error


def _tagged(value: object) -> Any:
    if isinstance(value, (date, time)):
        return encode_tree(value)
    raise ValueCodecError(f"{type(value).__name__} has no JSON form")


@contextlib.contextmanager
def trigger_span(name: str) -> Iterator[str]:
    """Hold a span open for a call, and yield its ``traceparent``; empty if this process does not trace.

    A process that traces has loaded OpenTelemetry's API. The client never loads it, so other processes pay nothing.
    """
    if "opentelemetry.trace" not in sys.modules:
        yield ""
        return
    from opentelemetry import trace

    with trace.get_tracer("nomaflow.client").start_as_current_span(name, kind=trace.SpanKind.PRODUCER) as span:
        context = span.get_span_context()
        flags = int(context.trace_flags) & 1
        yield f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}" if context.is_valid else ""
