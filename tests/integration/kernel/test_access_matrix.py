"""Every rpc, called raw by every principal on its own things, another's, and things that do not exist.

The expected answers are written down here a second time, independent of the kernel's policy. A new rpc without a row
fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from access_world import NO_RUN, AccessWorld
from google.protobuf import message_factory
from google.protobuf.message import Message

from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import attempt_inspection_pb2, callable_pb2, log_pb2
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.reason_statuses import status_error
from nomaflow_kernel.access.policy import RULES
from nomaflow_kernel.rpc.server import ACCESS, GATEWAY, HEALTH, KERNEL

PRINCIPALS = ("owner", "admin", "ann", "ben", "one", "host", "anyone")
OBJECTS = ("a", "b", "none")
"""Team a's, team b's, and things that do not exist."""

_ALL = ("read", "logs", "trigger", "cancel", "operate", "launch", "admin")
ALLOWED: dict[str, dict[str, tuple[str, ...]]] = {
    "owner": dict.fromkeys(OBJECTS, _ALL),
    "admin": dict.fromkeys(OBJECTS, _ALL),
    "ann": {"a": ("read", "logs", "trigger", "cancel", "operate")},
    "ben": {"b": ("read",)},
    "one": {"a": ("trigger on job",)},
    "host": {},
    "anyone": {},
}
"""Principal → object → the verbs it has there. The service `one` may trigger one job of team a, and nothing else."""


@dataclass(frozen=True)
class Row:
    """The grant that one rpc needs.

    :param verb: needed on the object, two with a space between; empty where any credential of a client will do
    :param request: makes the request of an object, for a run without its id; None if it is about no single thing
    :param target: ``job``, ``run``, ``host``, or ``all`` for what only a grant of everything allows
    """

    verb: str
    target: str = "all"
    request: Callable[[str], Any] | None = None


def _job(name: str) -> str:
    return {"a": "a.one", "b": "b.one", "none": "c.one"}[name]


def _host(name: str) -> str:
    return {"a": "teama", "b": "teamb", "none": "teamc"}[name]


KERNEL_ROWS: dict[str, Row] = {
    "GetKernel": Row("", "nothing"),
    "TriggerRun": Row("trigger", "job", lambda x: kernel.TriggerRunRequest(job_id=_job(x), validate_only=True)),
    "StreamTriggers": Row(
        "trigger",
        "job",
        lambda x: kernel.StreamTriggersRequest(
            items=[{"number": 1, "request": kernel.TriggerRunRequest(job_id=_job(x), validate_only=True)}]
        ),
    ),
    "TriggerRuns": Row("trigger", "items"),
    "CancelRun": Row("cancel", "run", lambda x: kernel.CancelRunRequest(run_id=f"run {x}")),
    "ReplayRun": Row("trigger operate", "run", lambda x: kernel.ReplayRunRequest(run_id=f"run {x}")),
    "GetRun": Row("read", "run", lambda x: kernel.GetRunRequest(run_id=f"run {x}")),
    "ListRuns": Row("read", "list"),
    "WatchRun": Row("read", "run", lambda x: kernel.WatchRunRequest(run_id=f"run {x}")),
    "WatchEvents": Row("read", "list"),
    "SummarizeRuns": Row("read", "list"),
    "GetJobStats": Row("read", "list"),
    "ListEvents": Row("read", "list"),
    "ListFires": Row("read", "list"),
    "ReadLogs": Row("logs", "run", lambda x: kernel.ReadLogsRequest(run_id=f"run {x}")),
    "ReadLogChunks": Row("logs", "run", lambda x: log_pb2.ReadLogChunksRequest(run_id=f"run {x}")),
    "InspectAttempt": Row("logs", "run", lambda x: attempt_inspection_pb2.InspectAttemptRequest(run_id=f"run {x}")),
    "ListCallables": Row("read", "host", lambda x: callable_pb2.ListCallablesRequest(host=_host(x))),
    "ListJobs": Row("read", "list"),
    "GetJob": Row("read", "job", lambda x: kernel.GetJobRequest(job_id=_job(x))),
    "ListHosts": Row("read", "list"),
    "ListWanted": Row("read", "list"),
    "DeclareEnded": Row(
        "launch",
        "host",
        lambda x: kernel.DeclareEndedRequest(host=_host(x), incarnation="f" * 32, evidence="it is gone"),
    ),
    "ReloadHost": Row("operate", "host", lambda x: kernel.ReloadHostRequest(host=_host(x))),
    "ForgetHost": Row("admin", "host", lambda x: kernel.ForgetHostRequest(host=_host(x))),
    "Pause": Row("operate", "job", lambda x: kernel.PauseRequest(job_id=_job(x))),
    "Resume": Row("operate", "job", lambda x: kernel.ResumeRequest(job_id=_job(x))),
}
ACCESS_ROWS: dict[str, Row] = {
    "CreateToken": Row("admin"),
    "InviteInstance": Row("launch"),
    "ListTokens": Row("admin"),
    "RevokeTokens": Row("admin"),
    "RotateToken": Row("admin"),
    "ListCertificates": Row("admin"),
    "GetAuthority": Row("read", "some"),
    "RenewAuthority": Row("admin"),
    "ReadAudit": Row("admin"),
    "VerifyAudit": Row("admin"),
}
GATEWAY_ROWS = ("Attach", "StreamReports", "IntroduceManifest", "RenewCertificate")
SERVICES = {KERNEL: KERNEL_ROWS, ACCESS: ACCESS_ROWS}


_CROSSED = "Internal error from Core"
"""The text of gRPC's own client if the kernel ends a stream while the first message is being written."""


async def call(
    world: AccessWorld, principal: str, service: Any, name: str, request: Message | None = None, *, seconds: float = 20
) -> tuple[str, str]:
    """Make a raw call; return the name of its status and its text. A stream is read once."""
    method = service.methods_by_name[name]
    made = request or message_factory.GetMessageClass(method.input_type)()
    options: dict[str, Any] = {
        "request_serializer": lambda message: message.SerializeToString(),
        "response_deserializer": message_factory.GetMessageClass(method.output_type).FromString,
    }
    channel, path = world.channel(principal), f"/{service.full_name}/{name}"
    metadata = world.metadata(principal)
    try:
        if method.client_streaming:
            call_ = channel.stream_stream(path, **options)(iter([made]), metadata=metadata, timeout=seconds)
            answer = await call_.read()
            code, text = ("OK", "") if not call_.done() else ((await call_.code()).name, await call_.details())
            for item in getattr(answer, "items", ()):
                if item.status:
                    raise status_error(item.status)
        elif method.server_streaming:
            call_ = channel.unary_stream(path, **options)(made, metadata=metadata, timeout=seconds)
            await call_.read()
            code, text = ("OK", "") if not call_.done() else ((await call_.code()).name, await call_.details())
            call_.cancel()
        else:
            await channel.unary_unary(path, **options)(made, metadata=metadata, timeout=seconds)
            code, text = "OK", ""
    except grpc.aio.AioRpcError as error:
        code, text = error.code().name, error.details() or ""
    if text == _CROSSED:
        return await call(world, principal, service, name, request, seconds=seconds)
    return code, text


def expected(principal: str, row: Row, name: str) -> str:
    """Return what access says of a call: OK, NOT_FOUND, PERMISSION_DENIED or UNAUTHENTICATED."""
    if principal == "anyone":
        return "UNAUTHENTICATED"
    verbs = ALLOWED[principal].get(name, ())
    needed = row.verb.split() or [""]
    if any(verb not in verbs and f"{verb} on {row.target}" not in verbs for verb in needed):
        return "PERMISSION_DENIED"
    return "NOT_FOUND" if name == "none" else "OK"


def test_every_rpc_has_a_row_here_and_in_the_policy() -> None:
    """An rpc that nobody thought about is served to nobody, and this test names it."""
    for service, rows in SERVICES.items():
        assert {method.name for method in service.methods} == rows.keys()
    assert {method.name for method in GATEWAY.methods} == set(GATEWAY_ROWS)
    paths = {f"/{each.full_name}/{method.name}" for each in (KERNEL, ACCESS, GATEWAY) for method in each.methods}
    others = {path for path in RULES if path.startswith(("/grpc.", "/nomaflow_api.v1.EnrolmentService/"))}
    assert RULES.keys() == paths | others


@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_what_each_may_do_with_its_own_anothers_and_unknown_things(world: AccessWorld, principal: str) -> None:
    """A3, A8: each cell is what the table says; nothing tells another's things from things that do not exist."""
    wrong, texts = [], {}
    for name, row in sorted(KERNEL_ROWS.items(), key=lambda item: item[0] == "ForgetHost"):
        if row.request is None:
            continue
        for object_ in reversed(OBJECTS):
            request = row.request(object_)
            if row.target == "run":
                request.run_id = {**world.runs, "none": NO_RUN}[object_]
            want = expected(principal, row, object_)
            # The teams' hosts answer no reload, and access is checked before they are asked.
            seconds = 2 if (name, want) == ("ReloadHost", "OK") else 20
            code, text = await call(world, principal, KERNEL, name, request, seconds=seconds)
            # Access comes first; a host that is not attached, for example, is refused afterwards.
            fine = code not in ("PERMISSION_DENIED", "UNAUTHENTICATED", "NOT_FOUND") if want == "OK" else code == want
            if not fine:
                wrong.append((name, object_, code, text))
            texts[name, object_] = text
    if name_of := {"ann": "b", "ben": "a", "one": "b"}.get(principal):
        for name, row in KERNEL_ROWS.items():
            if row.request is not None:
                other, none = texts[name, name_of], texts[name, "none"]
                for function in (_job, _host, lambda x: {**world.runs, "none": NO_RUN}[x]):
                    other, none = other.replace(function(name_of), "X"), none.replace(function("none"), "X")
                assert other == none, name
    assert wrong == []


@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_access_itself_is_for_administrators(world: AccessWorld, principal: str) -> None:
    """Credentials, the authority and the audit: an operator sees and changes none of them."""
    for name, row in ACCESS_ROWS.items():
        code, text = await call(world, principal, ACCESS, name)
        if principal == "anyone":
            assert code == "UNAUTHENTICATED", name
        elif principal in ("owner", "admin") or (row.target == "some" and principal in ("ann", "ben")):
            assert code in ("OK", "INVALID_ARGUMENT", "NOT_FOUND"), (name, text)
        else:
            assert code == "PERMISSION_DENIED", (name, text)


@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_hosts_do_what_hosts_do_and_nobody_else_does(world: AccessWorld, principal: str) -> None:
    """A8: a client's token on a host's calls is refused, and so is a host's certificate on a client's."""
    for name in ("Attach", "StreamReports", "IntroduceManifest"):
        code, text = await call(world, principal, GATEWAY, name)
        if principal == "anyone":
            assert code == "UNAUTHENTICATED", name
        elif principal in ("owner", "host"):
            assert code not in ("PERMISSION_DENIED", "UNAUTHENTICATED"), (name, text)
        else:
            assert code == "PERMISSION_DENIED", (name, text)
    told = gateway.Hello(protocol_min=1, protocol_max=1, host="one", incarnation="f" * 32, max_async=1, max_sync=1)
    if principal == "one":  # a host of its name is no more its own than another's
        assert (await call(world, principal, GATEWAY, "Attach", gateway.AttachRequest(hello=told)))[
            0
        ] == "PERMISSION_DENIED"
    assert (await call(world, principal, HEALTH, "Check"))[0] == "OK"
    assert (await call(world, principal, KERNEL, "GetKernel"))[0] == {
        "anyone": "UNAUTHENTICATED", "host": "PERMISSION_DENIED",
    }.get(principal, "OK")  # fmt: skip


@pytest.mark.parametrize("verb", _ALL)
async def test_one_verb_too_few_is_refused_alike_for_what_is_there_and_what_is_not(
    world: AccessWorld, verb: str
) -> None:
    """Every verb but one on team a, and that one on something else: so the call is read, and its target looked at."""
    others = [f"{each} host:teama" for each in _ALL if each != verb]
    principal = f"without-{verb}"
    await world.join(principal, kind="service", grants=(*others, f"{verb} job:elsewhere"))
    invites = Row("launch", "host", lambda x: access.InviteInstanceRequest(host=_host(x)))
    rows = [*((KERNEL, name, row) for name, row in KERNEL_ROWS.items()), (ACCESS, "InviteInstance", invites)]
    for service, rpc, row in rows:
        if row.request is None or verb not in row.verb.split():
            continue
        texts = {}
        for object_ in OBJECTS:
            request = row.request(object_)
            if row.target == "run":
                request.run_id = {**world.runs, "none": NO_RUN}[object_]
            code, text = await call(world, principal, service, rpc, request)
            assert code == "PERMISSION_DENIED", (rpc, object_, code, text)
            for function in (_job, _host, lambda x: {**world.runs, "none": NO_RUN}[x]):
                text = text.replace(function(object_), "X")
            texts[object_] = text
        assert texts["b"] == texts["none"], rpc
        if rpc != "ReplayRun" or verb == "trigger":
            assert texts["a"] == texts["none"], rpc
