"""Texts of the audit about a call, read from its request and its answer: names and reasons, never a secret."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

_NAMED = 5
_TRACE_ID = 32
_TARGETS = (("job_id", "job:"), ("run_id", ""), ("host", "host:"), ("token_id", ""), ("target", ""))
_NOTES: Mapping[str, Callable[[Any], str]] = {
    "by": "for {}".format,
    "why": str,
    "evidence": str,
    "roles": lambda names: f"roles {named('', names)}",
    "grants": lambda names: f"grants {named('', names)}",
    "replace": lambda _: "a new authority",
    "force": lambda _: "forced",
    "joins": lambda _: "joins",
    "explicit": lambda _: "on request",
}
"""The text for a field of a request that is set."""
_ANSWERED = (("disabled_job_ids", "disabled"), ("released_job_ids", "free now"))


@cache
def _fields(descriptor: Any) -> frozenset[str]:
    """Return the names of a message's fields; asking a message for another one is slow."""
    return frozenset(field.name for field in descriptor.fields)


@cache
def _notes_of(descriptor: Any) -> Sequence[tuple[str, Callable[[Any], str]]]:
    """Return the texts for the fields that a message has."""
    return [(field, text) for field, text in _NOTES.items() if field in _fields(descriptor)]


def target_of(message: Any) -> str:
    """Return what a request is about, as the audit names it; empty if it names nothing."""
    known = _fields(message.DESCRIPTOR) if message is not None else ()
    for field, prefix in _TARGETS:
        if field in known and (name := getattr(message, field)):
            return f"{prefix}{name}"
    if "requests" in known and message.requests:
        return named("job:", (each.job_id for each in message.requests))
    return f"{_kind_of(message)}{message.name}" if "name" in known and message.name else ""


def _kind_of(message: Any) -> str:
    kind = message.DESCRIPTOR.fields_by_name.get("kind")
    if kind is None or kind.enum_type is None:
        return ""
    value = kind.enum_type.values_by_number.get(message.kind)
    return f"{value.name.rpartition('_')[2].lower()}:" if value is not None else ""


def note_of(request: Any, response: Any = None) -> str:
    """Return what a caller says about its call, and what a request and its answer say beyond the target."""
    parts = [text(value) for field, text in _notes_of(request.DESCRIPTOR) if (value := getattr(request, field))]
    parts += [f"{word} {named('job:', getattr(response, field))}" for field, word in _ANSWERED if _has(response, field)]
    return "; ".join(parts)


def _has(message: Any, field: str) -> bool:
    return message is not None and field in _fields(message.DESCRIPTOR) and bool(getattr(message, field))


def correlation_of(request: Any, response: Any) -> str:
    """Return the run, the credential, the instance or the manifest that a call is about."""
    if _has(response, "run") and response.run.run_id:
        return str(response.run.run_id)
    if _has(response, "token") and not isinstance(response.token, str):  # a text is the token itself, a secret
        return str(response.token.token_id)
    if _has(request, "evidence"):
        return str(request.incarnation)
    lists = [getattr(response, field) for field in ("token_ids", "serials") if _has(response, field)]
    if lists:
        return named("", chain(*lists))
    return str(request.digest) if _has(request, "digest") else ""


def named(prefix: str, names: Iterable[str]) -> str:
    """Return some of the names, each once and with a prefix, and how many more there are."""
    distinct = list(dict.fromkeys(names))
    more = len(distinct) - _NAMED
    return ", ".join(f"{prefix}{name}" for name in distinct[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def address_of(peer: str) -> str:
    """Return a peer's address as gRPC writes it, without the port, which differs for each connection."""
    if not peer.startswith(("ipv4:", "ipv6:")):
        return peer
    return peer.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]")


def trace_of(traceparent: str) -> str:
    """Return the trace that a call belongs to; empty if there is none."""
    trace_id = traceparent[3 : 3 + _TRACE_ID]
    return f"trace {trace_id}" if len(trace_id) == _TRACE_ID and trace_id.isalnum() and trace_id.isascii() else ""
