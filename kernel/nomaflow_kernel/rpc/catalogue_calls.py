"""The calls of KernelService about jobs and hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any

from nomaflow_api.near_names import near_names
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import host_pb2, job_pb2
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.lossless_json import ValueCodecError, loads_plain
from nomaflow_api.v1.message_codec import encode
from nomaflow_kernel.access.grants import Target, Verb
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.catalogue.own_file import NO_FILE_NAMED, OWN_FILE
from nomaflow_kernel.domain.errors import BadRequest, KernelError, UnknownJob, meant
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.hosts.incoming import check_incarnation
from nomaflow_kernel.hosts.reloading import reload_host
from nomaflow_kernel.rpc.guard import target_of
from nomaflow_kernel.rpc.hidden_values import host_without_values, reload_without_names, reload_without_values
from nomaflow_kernel.rpc.job_pages import shown_job
from nomaflow_kernel.rpc.job_problems import disabled_jobs, kept_jobs, warned_jobs
from nomaflow_kernel.rpc.messages import host_message, job_message
from nomaflow_kernel.rpc.pages import Page, page_key, page_size, page_token
from nomaflow_kernel.rpc.parts import Calls
from nomaflow_kernel.rpc.requests import check_count, check_host, check_job_id, check_most, person, sentence
from nomaflow_project.jobs.loaded import CatalogueLoad
from nomaflow_project.reading.problems import Problem

_FIRES = 10
_HOSTS_PER_PAGE = 200
_NAMED = 50
_LISTED = 20
"""The most known hosts that an error lists."""
_MOST_LAUNCHED = 1000
_MOST_LAUNCHED_SECONDS = 86_400


class CatalogueCalls(Calls):
    """Serves the calls about jobs and hosts."""

    def check_known(self, scope: str, name: str, caller: Caller) -> None:
        """Check that the target of a pause exists.

        :raises UnknownJob: if there is no such job
        :raises KernelError: if there is no such host
        """
        if scope == "job" and self._catalogue.job(name) is None:
            raise self.unknown_job(name, caller)
        if scope == "host":
            self._check_host(name)

    def unknown_job(self, job_id: str, caller: Caller) -> UnknownJob:
        """Return the error about an unknown id, with up to three near ones of jobs that the caller may read."""
        return UnknownJob(job_id, near_names(job_id, self._ids_read_by(caller)))

    def _ids_read_by(self, caller: Caller) -> Iterable[str]:
        if caller.principal.may_all(Verb.READ):
            return self._catalogue.ids()
        may, job = caller.principal.may, self._catalogue.job
        return (job_id for job_id in self._catalogue.ids() if (of := job(job_id)) and may(Verb.READ, target_of(of)))

    async def get_job(self, request: kernel.GetJobRequest, caller: Caller) -> kernel.GetJobResponse:
        """Return one job with its definition."""
        check_job_id(request.job_id)
        entry = self._catalogue.job(request.job_id)
        if entry is None:
            raise self.unknown_job(request.job_id, caller)
        last_runs = await self._store.last_runs([request.job_id])
        message = job_message(
            entry,
            now_us=self._clock.now_us(),
            fires=_FIRES,
            pause=self._engine.pause_of(entry.job_id, entry.host),
            why_not_running=self._engine.why_not_running(entry.job_id),
            last_run=last_runs.get(request.job_id),
        )
        if entry.definition is not None:
            message.definition_json = entry.definition.canonical_json.encode("utf-8", "surrogatepass")
        job = shown_job(message, entry, caller, self._guard)
        await self._sight.hide_ancestors([job.last_run], caller)
        return kernel.GetJobResponse(job=job)

    async def list_hosts(self, request: kernel.ListHostsRequest, caller: Caller) -> kernel.ListHostsResponse:
        """Return a page of the hosts that the caller may read, and their instances."""
        most, after = page_size(request.page_size, _HOSTS_PER_PAGE), page_key(request.page_token, 1)
        may = caller.principal.may
        instances: dict[str, list[Instance]] = {}
        for status in self._engine.instances():
            instances.setdefault(status.hello.host, []).append(status)
        names = sorted(
            name
            for name in self._host_names()
            if (after is None or name > after[0]) and may(Verb.READ, Target(host=name))
        )
        page: Page[host_pb2.Host] = Page()
        for name in names[:most]:
            message = host_message(name, instances.get(name, ()), catalogue=self._catalogue, engine=self._engine)
            page.add(message if may(Verb.LOGS, Target(host=name)) else host_without_values(message))
            if page.full:
                break
            await asyncio.sleep(0)  # a host may have many workers; give other tasks a turn
        left = len(names) > len(page.entries)
        token = page_token([page.entries[-1].name]) if left else ""
        return kernel.ListHostsResponse(hosts=page.entries, next_page_token=token)

    async def list_wanted(self, request: kernel.ListWantedRequest, caller: Caller) -> kernel.ListWantedResponse:
        """Return a page of the demand for instances of the hosts that the caller may read."""
        if request.host:
            check_host(request.host)
        self._note_launcher(request, caller)
        most, after = page_size(request.page_size, _HOSTS_PER_PAGE), page_key(request.page_token, 1)
        by_host = groupby(await self._engine.whole_demand(), key=attrgetter("host"))
        page: Page[kernel.Wanted] = Page()
        hosts: list[str] = []
        for host, demands in by_host:
            passed = after is not None and host <= after[0]
            if passed or request.host not in ("", host) or not caller.principal.may(Verb.READ, Target(host=host)):
                continue
            if page.full or len(hosts) == most:
                return kernel.ListWantedResponse(wanted=page.entries, next_page_token=page_token(hosts[-1:]))
            hosts.append(host)
            for each in demands:
                page.add(encode(kernel.Wanted, each))
        return kernel.ListWantedResponse(wanted=page.entries)

    def _note_launcher(self, request: kernel.ListWantedRequest, caller: Caller) -> None:
        """Note that the caller is the launcher of some hosts, if it says so.

        :raises NotPermitted: if it may not launch one of them
        """
        check_count(request.launched_hosts, _MOST_LAUNCHED, "launched_hosts")
        check_most(request.launched_seconds, _MOST_LAUNCHED_SECONDS, "launched_seconds")
        for host in request.launched_hosts:
            check_host(host)
            caller.require(Verb.LAUNCH, Target(host=host))
        for host in self._host_names().intersection(request.launched_hosts):
            self._engine.launches(host, request.launched_seconds)

    async def declare_ended(self, request: kernel.DeclareEndedRequest, caller: Caller) -> kernel.DeclareEndedResponse:
        """End the attempts of an instance that is certainly gone."""
        by, evidence = person(request.by, caller), sentence(request.evidence, "evidence").strip()
        self._check_host(request.host)
        check_incarnation(request.incarnation)
        if not evidence:
            raise BadRequest("evidence is empty, expected why nothing of the instance can be left", field="evidence")
        ended = await self._engine.declare_ended((request.host, request.incarnation), evidence=evidence, by=by)
        return kernel.DeclareEndedResponse(known=ended is not None, attempts=ended or 0)

    async def reload_host(self, request: kernel.ReloadHostRequest, caller: Caller) -> kernel.ReloadHostResponse:
        """Have a host load its code again, and return each instance's result.

        The kernel's own file is read too, for a caller that may operate everything.
        """
        by = person(request.by, caller)
        operates = caller.principal.may_all(Verb.OPERATE)
        load = await self._catalogue.reload_jobs_file(explicit=True) if operates else None
        has_file = load is not None or self._catalogue.jobs_file is not None
        if not request.host and operates and has_file and not self._host_names():
            return kernel.ReloadHostResponse(instances=self._own_outcome(load, caller, force=request.force))
        host = self.the_host(request.host, Verb.OPERATE, caller)
        before = self._brought_by(host)
        results = await reload_host(self._sessions, host, force=request.force, by=by)
        digest = self._catalogue.host(host).digest
        jobs = self._catalogue.jobs()
        unwell = [*disabled_jobs(jobs, host, caller), *kept_jobs(jobs, host), *warned_jobs(jobs, host)]
        changes = _changes(before, self._brought_by(host))
        outcomes = []
        for name, result in results:
            leads = result.accepted and result.manifest_digest == digest
            told = [*_problems(result), *(unwell if leads else ())]
            # An instance knows only its own previous load, not what earlier instances and starts brought.
            known: dict[str, Any] = changes if leads else {}
            outcomes.append(
                encode(kernel.ReloadOutcome, result, result.loaded, incarnation=name, host=host, problems=told, **known)
            )
        if not caller.principal.may(Verb.READ, Target(host=host)):
            outcomes = [reload_without_names(each) for each in outcomes]
        elif not caller.principal.may(Verb.LOGS, Target(host=host)):
            outcomes = [reload_without_values(each) for each in outcomes]
        own = self._own_outcome(load, caller, force=request.force)
        return kernel.ReloadHostResponse(instances=[*own, *outcomes])

    def _brought_by(self, host: str) -> set[str]:
        return {job.job_id for job in self._catalogue.jobs() if job.loaded.host == host and not job.removed}

    def _own_outcome(self, load: CatalogueLoad | None, caller: Caller, *, force: bool) -> list[kernel.ReloadOutcome]:
        """Return the outcome of the kernel's own file if it is broken, or jobs of it are disabled or were removed."""
        if load is None or not caller.principal.may_all(Verb.LOGS):
            return []
        removed, kept = self._catalogue.removed_from_own_file(), [job.job_id for job in load.jobs if job.kept]
        broken = bool(kept) or any(each.is_error for each in load.problems)
        disabled = disabled_jobs(self._catalogue.jobs(), OWN_FILE, caller)
        if not (broken or removed or disabled):
            return []
        is_named = all(each.code != NO_FILE_NAMED for each in load.problems)
        state = "was read again" if not broken else "is broken" if is_named else "is no longer named"
        goes_on = f"; keeping the last good definitions of: {', '.join(kept)}" if kept else ""
        found = [*load.problems, *(problem for job in load.jobs if job.kept for problem in job.problems)]
        problems = [encode(job_pb2.Problem, problem) for problem in found]
        told = {problem.SerializeToString(): problem for problem in problems}  # jobs repeat their file's
        outcome = kernel.ReloadOutcome(
            accepted=force or not broken,
            message=f"the kernel's own jobs file {state}{goes_on}",
            problems=[*told.values(), *disabled],
            removed_job_ids=removed[:_NAMED],
            removed_count=len(removed),
        )
        return [outcome]

    async def forget_host(self, request: kernel.ForgetHostRequest, caller: Caller) -> kernel.ForgetHostResponse:
        """Remove a host that is gone, and release its job ids."""
        by = person(request.by, caller)
        self._check_host(request.host)
        if self._sessions.of_host(request.host):
            why = f"host {request.host!r} is attached; only a detached host can be forgotten; stop it first"
            raise KernelError(why, reason="HOST_ATTACHED")
        if held := self._engine.held_count(request.host):
            steps = "a step that may" if held == 1 else f"{held} steps that may"
            raise KernelError(
                f"host {request.host!r} is away, and holds {steps} still run; "
                "it can be forgotten when it has reported how they ended, or they are LOST",
                reason="HOST_ATTACHED",
            )
        released = await self._catalogue.forget(request.host, by=by)
        for session in self._sessions.of_host(request.host):
            session.end("its host was forgotten while it attached")  # it comes again, and brings its jobs
        return kernel.ForgetHostResponse(released_job_ids=released)

    def the_host(self, name: str, verb: Verb, caller: Caller) -> str:
        """Return the name of a known host; for an empty name, the only one that the caller sees and may do this to.

        :param verb: for a host that is named, the guard has checked it
        :raises BadRequest: if no name is given, and there is not exactly one
        :raises KernelError: if there is no such host
        """
        if name:
            self._check_host(name)
            return name
        may = caller.principal.may
        known = sorted(
            each for each in self._host_names() if may(Verb.READ, Target(host=each)) and may(verb, Target(host=each))
        )
        attached = self._sessions.hosts()
        candidates = [each for each in known if each in attached] or known
        if len(candidates) != 1:
            also = "" if verb is Verb.READ else f" and {verb}"
            if candidates:
                told = f"there are several hosts, name one of them: {', '.join(map(repr, candidates))}"
            elif caller.principal.may_all(Verb.READ) and caller.principal.may_all(verb):
                told = "no host has attached yet; start one with: nomaflow host DIR"
            else:
                told = f"there is no host that you may see{also}; name the one that you mean"
            raise BadRequest(told, field="host")
        return candidates[0]

    def _check_host(self, name: str) -> None:
        check_host(name)
        names = sorted(self._host_names())
        if name not in names:
            listed = ", ".join(map(repr, names[:_LISTED])) + (" …" if len(names) > _LISTED else "")
            hint = meant(near_names(name, names)) or f"known hosts: {listed or 'none'}"
            raise KernelError(f"no host has the name {name[:64]!r}; {hint}", reason="HOST_NOT_FOUND")

    def _host_names(self) -> set[str]:
        introduced = {each.host for each in self._catalogue.hosts() if each.host}
        return introduced | {status.hello.host for status in self._engine.instances()} | set(self._sessions.hosts())


def _changes(before: set[str], after: set[str]) -> dict[str, Any]:
    """Return which jobs a host no longer brings, and which it had not brought before, as fields of an outcome."""
    removed, added = sorted(before - after), sorted(after - before)
    return {
        "removed_job_ids": removed[:_NAMED],
        "removed_count": len(removed),
        "added_job_ids": added[:_NAMED],
        "added_count": len(added),
    }


def _problems(result: gateway.ReloadResult) -> list[job_pb2.Problem]:
    if not result.problems_json:
        return []
    try:
        items = loads_plain(result.problems_json.decode("utf-8"), path="problems")
    except (UnicodeDecodeError, ValueCodecError) as error:
        return [job_pb2.Problem(severity="warning", code="unreadable_problems", message=f"from the host: {error}")]
    found = items if isinstance(items, list) else ()
    return [encode(job_pb2.Problem, Problem.from_json(item)) for item in found if isinstance(item, Mapping)]
