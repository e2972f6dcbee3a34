"""Clients read what a host offers: signatures for forms, and why a module does not import."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from rpc_world import World

from nomaflow.client.values import CallablesView
from nomaflow_api.v1 import callable_pb2
from nomaflow_api.v1.message_codec import decode
from nomaflow_kernel.catalogue.registry import HostCatalogue
from nomaflow_kernel.rpc.hidden_values import callable_without_values, module_without_values
from nomaflow_project.jobs.definitions import JobDefinition, StepDefinition
from nomaflow_project.jobs.loaded import CatalogueLoad, LoadedJob

PURGE = {
    "kind": "async", "doc": "Purge.", "file": "plugins/m.py", "line": 3, "catch_all": "_", "error": None,
    "parameters": [
        {"name": "ctx", "kind": "keyword", "required": True, "annotation": "", "default": ""},
        {"name": "special", "kind": "keyword", "required": True, "annotation": "", "default": ""},
        {
            "name": "days", "kind": "keyword", "required": False, "annotation": "int | None", "default": "None",
            "default_json": "null", "schema": {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "doc": "the age",
        },
        {"name": "rest", "kind": "var_positional", "required": False, "annotation": "", "default": ""},
    ],
}  # fmt: skip
BROKEN = {"error": "No module named 'lxml'", "traceback": "Traceback…", "file": "plugins/ops.py", "line": 7}
FINE = {"error": None, "traceback": "", "file": "", "line": 0}
MANIFEST: dict[str, Any] = {
    "host": "team",
    "callables": {"m:purge": PURGE, "m:gone": {"kind": "sync", "parameters": [], "error": "no such function"}},
    "modules": {"ops": BROKEN, "m": FINE},
    "step_types": [{"name": "sql", "callable": "m:purge", "schema": {"properties": {"q": {"type": "string"}}}}],
    "injections": ["special"],
}


def bring(world: World, manifest: dict[str, Any] = MANIFEST) -> None:
    """Have a host bring a manifest, and two jobs that call one callable of it."""
    step = StepDefinition(name="a", type="python", callable="m:purge")
    jobs = tuple(
        LoadedJob(
            job_id=name, host="team", definition=JobDefinition(id=name, timezone="UTC", steps=(step, step), host="team")
        )
        for name in ("night", "week")
    )
    world.catalogue.take_in(HostCatalogue(host="team", manifest=manifest, load=CatalogueLoad(jobs=jobs)))


async def offered(world: World, **query: Any) -> CallablesView:
    """Return everything, asking for one page after the other."""
    whole = callable_pb2.ListCallablesResponse()
    request = callable_pb2.ListCallablesRequest(**query)
    while True:
        page = await world.client.ListCallables(request, timeout=10)
        whole.MergeFrom(page)
        request.page_token = page.next_page_token
        if not request.page_token:
            return decode(CallablesView, whole)


async def test_a_signature_is_told_as_a_form_needs_it(world: World) -> None:
    """Types, defaults and docs of each keyword; what the host gives is marked, and not required."""
    bring(world)
    found = await offered(world)
    assert [each.reference for each in found.callables] == ["m:gone", "m:purge"]
    gone, purge = found.callables
    assert gone.error == "no such function"
    assert (purge.kind, purge.doc, purge.file, purge.line) == ("async", "Purge.", "plugins/m.py", 3)
    assert (purge.accepts_any_keyword, purge.job_ids) == (True, ("night", "week"))
    assert [(each.name, each.required, each.injected) for each in purge.parameters] == [
        ("ctx", False, True), ("special", False, True), ("days", False, False),
    ]  # fmt: skip
    days = purge.parameters[2]
    assert (days.default, days.default_text, days.doc) == (None, "None", "the age")
    assert days.schema == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert [(each.name, each.error, each.line) for each in found.modules] == [
        ("m", "", 0), ("ops", "No module named 'lxml'", 7),
    ]  # fmt: skip
    assert found.step_types[0].schema == {"properties": {"q": {"type": "string"}}}
    json.dumps(found.to_json())


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_pages_hold_everything_once(world: World, size: int) -> None:
    """Modules, step types and callables come in pages of any size; a foreign token is refused."""
    bring(world)
    assert await offered(world, page_size=size) == await offered(world)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await offered(world, page_token="x")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_many_large_callables_fit_into_messages(world: World) -> None:
    """A host with megabytes of schemas is listed whole."""
    schema = {"title": "x" * 15_000}
    parameter = {"name": "a", "kind": "keyword", "required": True, "schema": schema}
    callables = {f"m:f{number:04}": {"kind": "sync", "parameters": [parameter]} for number in range(1_000)}
    bring(world, {"host": "team", "callables": callables})
    assert len((await offered(world)).callables) == 1_000


async def test_only_what_a_form_asks_for_is_sent(world: World) -> None:
    """The callables of one job, without the modules; an unknown one is left out."""
    bring(world)
    found = await offered(world, host="team", references=["m:purge", "m:none"])
    assert [each.reference for each in found.callables] == ["m:purge"]
    assert found.modules == found.step_types == ()


async def test_an_unknown_host_is_refused(world: World) -> None:
    """With the name that was asked for."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await offered(world, host="tame")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_who_may_not_read_values_reads_signatures_only() -> None:
    """Defaults, schemas with defaults and the texts of exceptions are left out; names, types and docs stay."""
    parameters = [
        callable_pb2.Parameter(
            name="a", default_json=b'"s3cret"', default_text="'s3cret'", schema_json=b'{"type":"string"}'
        ),
        callable_pb2.Parameter(name="b", schema_json=b'{"properties":{"x":{"default":"s3cret"}}}'),
    ]
    offered = callable_pb2.Callable(reference="m:f", doc="Purge.", error="s3cret", parameters=parameters)
    shown = callable_without_values(offered)
    module = module_without_values(callable_pb2.PluginModule(name="m", error="s3cret", traceback="s3cret"))
    assert b"s3cret" not in shown.SerializeToString() + module.SerializeToString()
    assert (shown.doc, shown.parameters[0].schema_json) == ("Purge.", b'{"type":"string"}')
