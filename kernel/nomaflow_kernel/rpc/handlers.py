"""The handlers that gRPC calls: one for each rpc of a service, from the method that serves it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from nomaflow_kernel.access.principals import Caller, NotPermitted
from nomaflow_kernel.rpc.endpoints import Endpoints
from nomaflow_kernel.rpc.numbered_exchanges import ManyCalls

EXCHANGES: Mapping[str, str] = {"StreamTriggers": "TriggerRun"}
"""Streams of numbered requests → the unary method that each request is for."""

_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


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

    :param methods: name of each rpc of the descriptor → the method that serves it, or :class:`ManyCalls`
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
    return service_methods(descriptor, dict.fromkeys(descriptor.methods_by_name, _elsewhere), endpoints)


def _elsewhere(_request: Any, caller: Caller) -> Any:
    raise NotPermitted(caller.principal, "call", "this service at this door")


def _method_handler(
    method: MethodDescriptor, path: str, call: Callable[..., Any], endpoints: Endpoints
) -> grpc.RpcMethodHandler[Any, Any]:
    # Requests come undecoded, so that a malformed one gets a clear answer.
    request = message_factory.GetMessageClass(method.input_type)
    if method.name in EXCHANGES:
        unary_path = f"{path.rpartition('/')[0]}/{EXCHANGES[method.name]}"
        calls = call if isinstance(call, ManyCalls) else ManyCalls(answers=call, takes=lambda _: False)  # it refuses
        return grpc.stream_stream_rpc_method_handler(endpoints.numbered(path, unary_path, calls, method))
    if method.client_streaming and not method.server_streaming:
        return grpc.stream_unary_rpc_method_handler(endpoints.one_way(path, call, request))
    # With a time limit for the request we read it ourselves, once the caller is known: gRPC then hands over a stream.
    reads = endpoints.body_seconds is not None
    if method.client_streaming or (method.server_streaming and reads):
        behaviour = endpoints.stream(path, call, request, many=method.client_streaming)
        return grpc.stream_stream_rpc_method_handler(behaviour)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(endpoints.stream(path, call, request, many=False))
    unary = endpoints.unary(path, call, request)
    return grpc.stream_unary_rpc_method_handler(unary) if reads else grpc.unary_unary_rpc_method_handler(unary)
