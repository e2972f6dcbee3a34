"""The call of KernelService about what a host offers: callables, modules and step types."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from google.protobuf.message import Message

from nomaflow_api.v1 import callable_pb2
from nomaflow_api.v1.message_codec import encode
from nomaflow_kernel.access.grants import Target, Verb
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.rpc.catalogue_calls import CatalogueCalls
from nomaflow_kernel.rpc.guard import target_of
from nomaflow_kernel.rpc.hidden_values import callable_without_values, module_without_values
from nomaflow_kernel.rpc.pages import Page, page_key, page_size, page_token
from nomaflow_kernel.rpc.parts import Calls, KernelParts
from nomaflow_kernel.rpc.requests import check_count
from nomaflow_project.jobs.callables import injected_names

_PER_PAGE = 2_000
_REFERENCES = 1_000
_REFERENCE_LENGTH = 255
_MODULES, _STEP_TYPES, _CALLABLES = "modules", "step_types", "callables"
"""The lists of the answer, in the order of their entries in the pages."""


class CallableCalls(Calls):
    """Serves ListCallables."""

    def __init__(self, parts: KernelParts, hosts: CatalogueCalls) -> None:
        super().__init__(parts)
        self._hosts = hosts

    async def list_callables(
        self, request: callable_pb2.ListCallablesRequest, caller: Caller
    ) -> callable_pb2.ListCallablesResponse:
        """Return a page of what a host's newest catalogue offers."""
        check_count(request.references, _REFERENCES, "references")
        for reference in request.references:
            if len(reference) > _REFERENCE_LENGTH or not reference.isprintable():
                raise BadRequest(
                    f"references has {reference[:80]!r}, expected names of callables, at most {_REFERENCE_LENGTH} "
                    "printable characters",
                    field="references",
                )
        most, after = page_size(request.page_size, _PER_PAGE), page_key(request.page_token, 2)
        host = self._hosts.the_host(request.host, Verb.READ, caller)
        offer = _Offer(
            self._catalogue.manifest(host), self._jobs_by_callable(host, caller), frozenset(request.references)
        )
        sees_values = caller.principal.may(Verb.LOGS, Target(host=host))
        response = callable_pb2.ListCallablesResponse(host=host)
        page: Page[Message] = Page()
        last = ("", "")
        for section, name in offer.keys(after):
            if page.full or len(page.entries) == most:
                response.next_page_token = page_token(last)
                break
            message = offer.message(section, name, sees_values=sees_values)
            page.add(message)
            getattr(response, section).append(message)
            last = section, name
        return response

    def _jobs_by_callable(self, host: str, caller: Caller) -> Mapping[str, list[str]]:
        """Return, for each callable, the jobs of the host that call it and that the caller may read."""
        found: dict[str, dict[str, None]] = {}
        for job in self._catalogue.jobs():
            if job.host != host or job.definition is None or job.removed:
                continue
            if caller.principal.may(Verb.READ, target_of(job)):
                for step in job.definition.steps:
                    found.setdefault(step.callable, {})[job.job_id] = None
        return {reference: list(ids) for reference, ids in found.items()}


class _Offer:
    """The modules, step types and callables that a host offers.

    :param jobs: the jobs that call each callable
    :param references: the callables that are asked for; empty for all, and the rest
    """

    def __init__(self, manifest: Mapping[str, Any], jobs: Mapping[str, list[str]], references: Collection[str]) -> None:
        self._callables: Mapping[str, Any] = manifest.get("callables") or {}
        self._modules: Mapping[str, Any] = manifest.get("modules") or {}
        self._types = {each["name"]: each for each in manifest.get("step_types") or ()}
        self._injected = injected_names(manifest)
        self._jobs = jobs
        self._references = references

    def keys(self, after: tuple[str, ...] | None) -> Iterator[tuple[str, str]]:
        """Yield list and name of each entry, in the order of the pages."""
        sections = [_MODULES, _STEP_TYPES, _CALLABLES]
        names: list[Collection[str]] = [self._modules, self._types, self._callables]
        if self._references:
            names = [(), (), self._references & self._callables.keys()]
        start = (sections.index(after[0]) if after[0] in sections else 0, after[1]) if after else (-1, "")
        for number, section in enumerate(sections):
            for name in sorted(names[number]):
                if (number, name) > start:
                    yield section, name

    def message(self, section: str, name: str, *, sees_values: bool) -> Message:
        """Return the message of an entry."""
        if section == _MODULES:
            entry = self._modules[name]
            module = encode(
                callable_pb2.PluginModule,
                name=name,
                file=entry.get("file") or "",
                line=entry.get("line") or 0,
                error=entry.get("error") or "",
                traceback=entry.get("traceback") or "",
            )
            return module if sees_values else module_without_values(module)
        if section == _STEP_TYPES:
            entry = self._types[name]
            return encode(
                callable_pb2.StepTypeInfo, name=name, doc=entry.get("doc") or "", schema_json=_json(entry.get("schema"))
            )
        found = self._callable(name, self._callables[name])
        return found if sees_values else callable_without_values(found)

    def _callable(self, reference: str, entry: Mapping[str, Any]) -> callable_pb2.Callable:
        return encode(
            callable_pb2.Callable,
            reference=reference,
            kind=entry.get("kind") or "sync",
            doc=entry.get("doc") or "",
            file=entry.get("file") or "",
            line=entry.get("line") or 0,
            parameters=[self._parameter(each) for each in entry.get("parameters") or () if each["kind"] == "keyword"],
            accepts_any_keyword=bool(entry.get("catch_all")),
            error=entry.get("error") or "",
            job_ids=self._jobs.get(reference, ()),
        )

    def _parameter(self, entry: Mapping[str, Any]) -> callable_pb2.Parameter:
        injected = entry["name"] in self._injected
        return encode(
            callable_pb2.Parameter,
            name=entry["name"],
            required=entry["required"] and not injected,
            annotation=entry.get("annotation") or "",
            default_json=entry.get("default_json") or "",
            schema_json=_json(entry.get("schema")),
            doc=entry.get("doc") or "",
            injected=injected,
            default_text=entry.get("default") or "",
        )


def _json(schema: Mapping[str, Any] | None) -> str:
    return json.dumps(schema, separators=(",", ":")) if schema else ""
