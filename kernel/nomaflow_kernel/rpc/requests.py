"""Conversion of client requests to commands. Form is checked here, so that the engine sees only valid requests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Sized
from typing import Any, TypeVar, get_args

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec.structs import replace

from nomaflow_api.bounds import LAST_MOMENT_US
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.lossless_json import ValueCodecError, decode_tree, loads_plain
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.engine.commands import TriggerCommand
from nomaflow_kernel.history.ids import is_run_id
from nomaflow_kernel.history.records import PauseRecord, RunRequest, TriggerKind
from nomaflow_project.jobs.text_forms import is_job_id
from nomaflow_project.reading.names import LogLevel
from nomaflow_project.reading.problems import did_you_mean
from nomaflow_telemetry.trace_context import TraceContext

N = TypeVar("N", bound=int)
_S = TypeVar("_S", run_pb2.StepSwitch, run_pb2.StepValues)
_V = TypeVar("_V")

MAX_BATCH = 1000
"""The most runs that one call may trigger."""

_PARAMS_BYTES = 256 * 1024
_NAME_LENGTH = 128
_WHY_LENGTH = 1000
_STEPS = 1000
_SECRETS = 1000
_NUMBERS = 1000
_LOG_LEVELS = get_args(LogLevel)
_TRIGGER_KINDS = {
    run_pb2.TRIGGER_KIND_UNSPECIFIED: TriggerKind.API,
    run_pb2.TRIGGER_KIND_API: TriggerKind.API,
    run_pb2.TRIGGER_KIND_CLI: TriggerKind.CLI,
    run_pb2.TRIGGER_KIND_MANUAL: TriggerKind.MANUAL,
}
_LAST_SECOND = LAST_MOMENT_US // 1_000_000


def trigger_command(request: kernel.TriggerRunRequest, caller: Caller) -> TriggerCommand:
    """Return the command for one run.

    :raises BadRequest: if a field breaks a rule
    """
    check_job_id(request.job_id)
    kind = _TRIGGER_KINDS.get(request.trigger_kind)
    if kind is None:
        raise BadRequest(
            f"trigger_kind is number {request.trigger_kind}, expected API, CLI or MANUAL", field="trigger_kind"
        )
    preset = _name(request.preset, "preset") if request.preset else ""
    secret_keys = tuple(check_each(request.secret_keys, _SECRETS, "secret_keys", _name))
    return _command(request, caller, kind=kind, job_id=request.job_id, preset=preset, secret_keys=secret_keys)


def replay_command(request: kernel.ReplayRunRequest, caller: Caller) -> TriggerCommand:
    """Return the command for a replay.

    :raises BadRequest: if a field breaks a rule
    """
    check_run_id(request.run_id)
    if request.from_step and request.from_failed_step:
        raise BadRequest("from_step and from_failed_step are both set, expected one of them", field="from_step")
    return replace(
        _command(request, caller, kind=TriggerKind.REPLAY),
        replay_of=request.run_id,
        from_step=_name(request.from_step, "from_step") if request.from_step else "",
        from_failed_step=request.from_failed_step,
        current_definition=request.current_definition,
    )


def _command(
    request: kernel.TriggerRunRequest | kernel.ReplayRunRequest,
    caller: Caller,
    *,
    kind: TriggerKind,
    job_id: str = "",
    preset: str = "",
    secret_keys: tuple[str, ...] = (),
) -> TriggerCommand:
    return TriggerCommand(
        job_id=job_id,
        kind=kind,
        request=RunRequest(
            params=_object(request.params_json, "params_json"),
            op_kwargs=_by_step(request.step_values, "step_values", _op_kwargs),
            switches=_by_step(request.step_switches, "step_switches", lambda switch, _: switch.enabled),
            preset=preset,
            log_level=_log_level(request.log_level),
            allow_overlap=_allows_overlap(request.overlap),
            traceparent=_traceparent(caller),
        ),
        secret_keys=secret_keys,
        by=person(request.by, caller),
        author="" if caller.principal.is_owner else str(caller.principal),
        request_id=own_request_id(request.request_id, caller),
        request_hash=_content_hash(request) if request.request_id else "",
    )


def _allows_overlap(number: int) -> bool:
    if number not in run_pb2.OverlapChoice.values():
        raise BadRequest(f"overlap is number {number}, expected ALLOW, or none", field="overlap")
    return number == run_pb2.OVERLAP_CHOICE_ALLOW


def _traceparent(caller: Caller) -> str:
    """Return the trace context of a call; a malformed one counts as none, as the standard requires."""
    return caller.traceparent if caller.traceparent and TraceContext.parse(caller.traceparent) is not None else ""


def pause_record(request: kernel.PauseRequest, caller: Caller, *, now_us: int) -> PauseRecord:
    """Return the requested pause.

    :raises BadRequest: if a field breaks a rule
    """
    scope, name = pause_scope(request)
    until = moment_us(request, "until")
    if until is not None and until <= now_us:
        raise BadRequest("until lies in the past, expected a time in the future, or none for no end", field="until")
    return PauseRecord(
        scope=scope,
        name=name,
        by=person(request.by, caller),
        why=sentence(request.why, "why"),
        since_us=now_us,
        until_us=until,
    )


def pause_scope(request: kernel.PauseRequest | kernel.ResumeRequest) -> tuple[str, str]:
    """Return scope and name of a pause.

    :raises BadRequest: if the name is malformed: an empty one may be a variable that is not set
    """
    target = request.WhichOneof("target")
    if target == "job_id":
        check_job_id(request.job_id)
        return "job", request.job_id
    if target == "host":
        check_host(request.host)
        return "host", request.host
    return "all", ""


def check_run_id(run_id: str, field: str = "run_id") -> None:
    """Check the form of a run id.

    :raises BadRequest: if it is malformed
    """
    if not is_run_id(run_id):
        raise BadRequest(f"{_subject(field)} {run_id[:64]!r}, expected 'run_' and 26 characters", field=field)


def check_job_id(job_id: str, field: str = "job_id") -> None:
    """Check the form of a job id.

    :raises BadRequest: if it is malformed
    """
    if not is_job_id(job_id):
        raise BadRequest(
            f"{_subject(field)} {job_id[:64]!r}, expected 1 to 128 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit",
            field=field,
        )


def _subject(field: str) -> str:
    """Return the beginning of a sentence about the value of a field, or one value of a list."""
    return f"{field} has" if field.endswith("s") else f"{field} is"


def check_most(number: int, most: int, field: str) -> None:
    """Check that a number is not too large.

    :raises BadRequest: if it is
    """
    if number > most:
        raise BadRequest(f"{field} is {number}, expected at most {most}", field=field)


def check_count(items: Sized, most: int, field: str) -> None:
    """Check that a list does not have too many items.

    :raises BadRequest: if it has
    """
    if len(items) > most:
        raise BadRequest(f"{field} has {len(items)} items, expected at most {most}", field=field)


def check_each(items: Sequence[str], most: int, field: str, check: Callable[[str, str], object]) -> Sequence[str]:
    """Return a list that does not have too many items, each of which passes a check.

    :param check: called with an item and the field
    :raises BadRequest: if it has too many, or as the check does
    """
    check_count(items, most, field)
    for item in items:
        check(item, field)
    return items


def listed_numbers(numbers: Sequence[N], known: Container[object], field: str, expected: str) -> tuple[N, ...]:
    """Return the numbers of an enum that a request has, each once.

    :raises BadRequest: if there are too many, or one is not known
    """
    check_count(numbers, _NUMBERS, field)
    for number in numbers:
        if number not in known:
            raise BadRequest(f"{_subject(field)} the number {number}, expected {expected}", field=field)
    return tuple(dict.fromkeys(numbers))


def check_host(host: str) -> None:
    """Check that a host could have this name.

    :raises BadRequest: if it could not
    """
    if not (1 <= len(host) <= 64 and host.isascii() and host.isprintable()):
        raise BadRequest(f"host is {host[:80]!r}, expected the name of a host", field="host")


def check_place(request: Any) -> None:
    """Check that a job and a host could have the names in a filter; an empty one asks for nothing.

    :raises BadRequest: if they could not
    """
    if request.job_id:
        check_job_id(request.job_id)
    if request.host:
        check_host(request.host)


def listed_names(names: Iterable[str], known: Iterable[str], *, noun: str, field: str, page: str) -> tuple[str, ...]:
    """Return the names of a list that are meant: upper and lower case count as equal.

    :param noun: says what the list is of
    :param page: the page of the documentation that has it
    :raises BadRequest: if a name is not in the list
    """
    by_case = {each.casefold(): each for each in known}
    found = []
    for name in names:
        meant = by_case.get(name.casefold())
        if meant is None:
            hint = did_you_mean(name, by_case.values(), otherwise=f"{page} lists them")
            raise BadRequest(f"there is no {noun} {name!r}; {hint}", field=field)
        found.append(meant)
    return tuple(found)


def person(by: str, caller: Caller) -> str:
    """Return the author for the record: the principal, and the request's ``by`` as a note on whose behalf.

    :raises BadRequest: if it is too long, or not printable
    """
    return caller.signed(check_name(by, "by"))


def sentence(text: str, field: str) -> str:
    """Return a free text for the record.

    :raises BadRequest: if it is too long
    """
    if len(text) > _WHY_LENGTH:
        raise BadRequest(f"{field} has {len(text)} characters, expected at most {_WHY_LENGTH}", field=field)
    return text


def own_request_id(text: str, caller: Caller) -> str:
    """Return the idempotency key as it is stored: each principal has keys of its own, and the owner plain ones."""
    checked = check_name(text, "request_id", ascii_only=True)
    return f"{caller.principal}/{checked}" if checked and not caller.principal.is_owner else checked


def _name(text: str, field: str) -> str:
    return check_name(text, field, verb="has the name", least=1)


def check_name(text: str, field: str, *, verb: str = "is", least: int = 0, ascii_only: bool = False) -> str:
    """Return a name; an empty one asks for nothing, unless a least length is given.

    :raises BadRequest: if it is too long, or not printable
    """
    if least <= len(text) <= _NAME_LENGTH and text.isprintable() and (text.isascii() or not ascii_only):
        return text
    count = f"{least} to {_NAME_LENGTH}" if least else f"at most {_NAME_LENGTH}"
    kind = "printable ASCII" if ascii_only else "printable"
    raise BadRequest(f"{field} {verb} {text[:_NAME_LENGTH]!r}, expected {count} {kind} characters", field=field)


def _log_level(name: str) -> str:
    if name and name not in _LOG_LEVELS:
        raise BadRequest(f"log_level is {name[:32]!r}, expected one of {', '.join(_LOG_LEVELS)}", field="log_level")
    return name


def _by_step(items: Sequence[_S], field: str, value_of: Callable[[_S, str], _V]) -> Mapping[str, _V]:
    """Return what a list of a request says of each step; it may say it once."""
    check_count(items, _STEPS, field)
    found: dict[str, _V] = {}
    for item in items:
        step = _name(item.step, field)
        value = value_of(item, step)
        if step in found:
            raise BadRequest(f"{field} has the step {step!r} twice, expected it once", field=field)
        found[step] = value
    return found


def _op_kwargs(item: run_pb2.StepValues, step: str) -> Mapping[str, Any]:
    return _object(item.op_kwargs_json, f"step_values.{step}.op_kwargs_json")


def _object(body: bytes, field: str) -> Mapping[str, Any]:
    """Return a JSON object as a tagged tree."""
    if not body:
        return {}
    if len(body) > _PARAMS_BYTES:
        raise BadRequest(f"{field} has {len(body)} bytes, expected at most {_PARAMS_BYTES}", field=field)
    try:
        text = body.decode("utf-8")
        tree = loads_plain(text, path="")
        value = decode_tree(tree)  # a malformed tag is refused here, not hours later in a host
    except UnicodeDecodeError:
        raise BadRequest(f"{field} is not UTF-8 text, expected a JSON object", field=field) from None
    except ValueCodecError as error:
        raise BadRequest(
            f"{field} cannot be used: {error}", field=f"{field}.{error.path}" if error.path else field
        ) from None
    if not (isinstance(tree, dict) and isinstance(value, dict)):  # a tag stands for another value
        raise BadRequest(f"{field} is {text.strip()[:64]!r}, expected a JSON object", field=field)
    return tree


def _content_hash(request: Message) -> str:
    """Return a hash of everything in a request but its id."""
    copy = type(request)()
    copy.MergeFrom(request)
    copy.ClearField("request_id")
    kind = copy.DESCRIPTOR.name.encode()  # the two kinds share the ids
    return hashlib.sha256(kind + copy.SerializeToString(deterministic=True)).hexdigest()


def range_us(request: Message) -> tuple[int | None, int | None]:
    """Return ``since`` and ``until`` of a request in microseconds since the epoch.

    :raises BadRequest: if one is no time, or they are the wrong way round
    """
    since, until = moment_us(request, "since"), moment_us(request, "until")
    if since is not None and until is not None and since > until:
        raise BadRequest("since is later than until, expected an earlier time", field="since")
    return since, until


def moment_us(request: Message, field: str) -> int | None:
    """Return an instant of a request in microseconds since the epoch, or None if it has none.

    :raises BadRequest: if it is before 1970, or after the last day that every time zone has
    """
    if not request.HasField(field):
        return None
    stamp: Timestamp = getattr(request, field)
    if not 0 <= stamp.seconds <= _LAST_SECOND:
        raise BadRequest(
            f"{field} is {stamp.seconds} seconds after 1970, expected a time from 1970 to 29 December 9999", field=field
        )
    if not 0 <= stamp.nanos < 1_000_000_000:
        raise BadRequest(f"{field} has {stamp.nanos} nanoseconds, expected 0 to 999,999,999", field=field)
    return stamp.seconds * 1_000_000 + stamp.nanos // 1000
