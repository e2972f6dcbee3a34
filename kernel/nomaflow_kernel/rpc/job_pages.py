"""Lists of jobs: filtered, counted, and one page at a time."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import is_
from typing import TypeAlias

from msgspec import Struct

from nomaflow_api.v1 import job_pb2
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.access.grants import Target, Verb
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.engine.state import RecentlyUsed
from nomaflow_kernel.history.lookups import LastState
from nomaflow_kernel.history.records import PauseRecord, RunRecord
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.rpc.guard import Guard, target_of
from nomaflow_kernel.rpc.hidden_values import job_without_owner, job_without_values, run_without_values
from nomaflow_kernel.rpc.messages import job_message, pause_message
from nomaflow_kernel.rpc.pages import Page, listed_problems, page_key, page_size, page_token
from nomaflow_kernel.rpc.parts import Calls, KernelParts
from nomaflow_kernel.rpc.requests import check_each, check_host, check_job_id, check_name, listed_numbers
from nomaflow_project.reading.problems import Problem

_Condition: TypeAlias = job_pb2.JobCondition.ValueType
_JOBS_PER_PAGE = 500
_JOBS_PER_TURN = 25
_NAMED_JOBS = 500
_MOST_KEPT = 20_000
_CONDITIONS = frozenset(job_pb2.JobCondition.values()) - {job_pb2.JOB_CONDITION_UNSPECIFIED}
_OF_RUNS = frozenset({job_pb2.JOB_CONDITION_NEVER_RUN, job_pb2.JOB_CONDITION_SUCCEEDED, job_pb2.JOB_CONDITION_FAILED})
"""The conditions that the newest run decides."""
_OF_CATALOGUE = frozenset({job_pb2.JOB_CONDITION_DISABLED, job_pb2.JOB_CONDITION_KEPT})
"""The conditions that the job alone decides."""


def shown_job(job: job_pb2.Job, entry: Job, caller: Caller, guard: Guard) -> job_pb2.Job:
    """Return a job as its caller may see it: its newest run may be one of another host."""
    if not caller.principal.may(Verb.LOGS, target_of(entry)):
        job_without_values(job)
    if entry.foreign and entry.owner and not caller.principal.may(Verb.READ, Target(host=entry.owner)):
        job_without_owner(job)
    if job.HasField("last_run"):
        run = job.last_run
        if not guard.sees_run(run.job_id, run.host, caller):
            job.ClearField("last_run")
        elif not guard.sees_values(run.job_id, run.host, caller):
            run_without_values(run)
    return job


def same_jobs(one: Sequence[Job], other: Sequence[Job]) -> bool:
    """Return whether two lists have the very same jobs; comparing thousands that are merely equal would take long."""
    return len(one) == len(other) and all(map(is_, one, other))


class _KeptMessage(Struct, frozen=True, kw_only=True):
    """A message, and what it was made from; it is right until the fire that it shows."""

    entry: Job
    beside: tuple[PauseRecord | None, str, RunRecord | None]
    until_us: float
    message: job_pb2.Job


class JobMessageCache:
    """Makes the messages of jobs in lists, with the next fire only, and keeps them until something in them changes.

    A page of the console asks for all jobs again whenever something happens to one of them.
    """

    def __init__(self) -> None:
        self._kept: RecentlyUsed[tuple[str, str], _KeptMessage] = RecentlyUsed(_MOST_KEPT)

    def message(
        self, entry: Job, *, now_us: int, pause: PauseRecord | None, why_not_running: str, last_run: RunRecord | None
    ) -> job_pb2.Job:
        """Return the message of a job, which is the caller's to change."""
        kept, beside = self._kept.find(entry.key), (pause, why_not_running, last_run)
        if kept is None or kept.entry is not entry or now_us >= kept.until_us or kept.beside != beside:
            made = job_message(
                entry, now_us=now_us, fires=1, pause=pause, why_not_running=why_not_running, last_run=last_run
            )
            until_us = made.next_fires[0].at.ToMicroseconds() if made.next_fires else math.inf
            kept = _KeptMessage(entry=entry, beside=beside, until_us=until_us, message=made)
            self._kept.put(entry.key, kept)
        message = job_pb2.Job()
        message.CopyFrom(kept.message)
        return message


class JobPages(Calls):
    """Lists the catalogue. Messages, fires and newest runs are looked up for the jobs of a page only."""

    def __init__(self, parts: KernelParts) -> None:
        super().__init__(parts)
        self._messages = JobMessageCache()
        self._troubled: dict[frozenset[_Condition], tuple[list[Job], list[Job]]] = {}

    async def list_jobs(self, request: kernel.ListJobsRequest, caller: Caller) -> kernel.ListJobsResponse:
        """Return a page of the part of the catalogue that the caller may read.

        :raises BadRequest: if a field breaks a rule
        """
        wanted, most = _filter(request), page_size(request.page_size, _JOBS_PER_PAGE)
        after, asked = page_key(request.page_token, 2), frozenset(request.conditions)
        chosen = [entry for entry in self._read_by(caller, after=after) if wanted(entry)]
        if asked:
            chosen = await self._in(chosen, asked, caller)
        counts: list[job_pb2.JobCount] = []
        if request.with_counts and not after:
            counts = _counts(chosen, await self._conditions(chosen, _CONDITIONS, caller))
        of_page = chosen[request.skip : request.skip + most]
        page = await self._page(of_page, caller)
        left = len(chosen) > request.skip + len(page.entries)
        token = page_token(of_page[len(page.entries) - 1].key) if left and page.entries else ""
        if after:
            return kernel.ListJobsResponse(jobs=page.entries, next_page_token=token)
        return kernel.ListJobsResponse(
            jobs=page.entries,
            problems=listed_problems(self._file_problems(caller)),
            next_page_token=token,
            total=len(chosen),
            counts=counts,
            pauses=[made for pause in self._pauses(caller) if (made := pause_message(pause))],
        )

    def _read_by(self, caller: Caller, *, after: tuple[str, ...] | None) -> list[Job]:
        """Return the jobs that a caller may read."""
        principal, jobs = caller.principal, self._catalogue.jobs(after=after)
        if principal.may_all(Verb.READ):
            return jobs
        return [entry for entry in jobs if principal.may(Verb.READ, target_of(entry))]

    async def _page(self, entries: Sequence[Job], caller: Caller) -> Page[job_pb2.Job]:
        last_runs = await self._store.last_runs([entry.job_id for entry in entries]) if entries else {}
        page: Page[job_pb2.Job] = Page()
        for index, entry in enumerate(entries):
            if index % _JOBS_PER_TURN == _JOBS_PER_TURN - 1:
                await asyncio.sleep(0)  # computing fires takes time; give other tasks a turn
            job = self._messages.message(
                entry,
                now_us=self._clock.now_us(),
                pause=self._pause_of(entry),
                why_not_running=self._engine.why_not_running(entry.job_id),
                last_run=last_runs.get(entry.job_id),
            )
            page.add(shown_job(job, entry, caller, self._guard))
            if page.full:
                break
        await self._sight.hide_ancestors([job.last_run for job in page.entries if job.HasField("last_run")], caller)
        return page

    async def _in(self, entries: list[Job], asked: frozenset[_Condition], caller: Caller) -> list[Job]:
        """Return the jobs that are in one of some conditions.

        What the jobs alone decide is kept until they change: a page of the console asks for it each time.
        """
        of, kept = self._troubled.get(asked, ([], []))
        if same_jobs(of, entries):
            return kept
        found = await self._conditions(entries, asked, caller)
        chosen = [entry for entry, held in zip(entries, found, strict=True) if held]
        if asked <= _OF_CATALOGUE:
            self._troubled[asked] = entries, chosen
        return chosen

    async def _conditions(
        self, entries: Sequence[Job], asked: frozenset[_Condition], caller: Caller
    ) -> list[list[_Condition]]:
        """Return for each job which of some conditions it is in, as the caller may know them."""
        found: list[list[_Condition]] = []
        for start in range(0, len(entries), _JOBS_PER_PAGE):
            part = entries[start : start + _JOBS_PER_PAGE]
            states = await self._store.last_states([entry.job_id for entry in part]) if asked & _OF_RUNS else {}
            tests = [each for each in self._tests(states, caller).items() if each[0] in asked]
            found += [[condition for condition, holds in tests if holds(entry)] for entry in part]
            await asyncio.sleep(0)
        return found

    def _tests(self, states: Mapping[str, LastState], caller: Caller) -> dict[_Condition, Callable[[Job], bool]]:
        sees_run, is_active, pause_of = self._guard.sees_run, self._engine.is_active, self._pause_of

        def state_of(entry: Job) -> RunState | None:
            last = None if entry.foreign else states.get(entry.job_id)
            return last.state if last is not None and sees_run(entry.job_id, last.host, caller) else None

        return {
            job_pb2.JOB_CONDITION_DISABLED: lambda job: not job.valid or (bool(job.loaded.held) and not job.removed),
            job_pb2.JOB_CONDITION_KEPT: lambda job: job.loaded.kept and job.runnable,
            job_pb2.JOB_CONDITION_PAUSED: lambda job: pause_of(job) is not None,
            job_pb2.JOB_CONDITION_ACTIVE: lambda job: not job.foreign and is_active(job.job_id),
            job_pb2.JOB_CONDITION_NEVER_RUN: lambda job: state_of(job) is None,
            job_pb2.JOB_CONDITION_SUCCEEDED: lambda job: state_of(job) is RunState.SUCCEEDED,
            job_pb2.JOB_CONDITION_FAILED: lambda job: state_of(job) is RunState.FAILED,
        }

    def _pause_of(self, entry: Job) -> PauseRecord | None:
        """Return the pause of a job; that of its id is none of it if the id is another host's."""
        return self._engine.pause_of("" if entry.foreign else entry.job_id, entry.host)

    def _file_problems(self, caller: Caller) -> list[Problem]:
        may = caller.principal.may
        return [
            problem
            for known in self._catalogue.hosts()
            if may(Verb.READ, Target(host=known.host)) and may(Verb.LOGS, Target(host=known.host))
            for problem in known.load.problems
        ]

    def _pauses(self, caller: Caller) -> list[PauseRecord]:
        """Return the pauses whose target the caller may read."""
        may, job = caller.principal.may, self._catalogue.job
        return [
            pause
            for pause in self._engine.pauses()
            if pause.scope == "all"
            or (pause.scope == "host" and may(Verb.READ, Target(host=pause.name)))
            or (pause.scope == "job" and (of := job(pause.name)) is not None and may(Verb.READ, target_of(of)))
        ]


def _filter(request: kernel.ListJobsRequest) -> Callable[[Job], bool]:
    """Return a function that says whether a request wants a job, whatever its condition.

    :raises BadRequest: if a field breaks a rule
    """
    if request.host:
        check_host(request.host)
    check_name(request.tag, "tag")
    check_name(request.text, "text")
    listed_numbers(request.conditions, _CONDITIONS, "conditions", "conditions of jobs")
    check_each(request.job_ids, _NAMED_JOBS, "job_ids", check_job_id)
    if request.skip and request.page_token:
        raise BadRequest("skip is set beside page_token, expected one of them", field="skip")
    named, needle, host, tag = frozenset(request.job_ids), request.text.casefold(), request.host, request.tag
    removed = request.include_removed

    def wanted(entry: Job) -> bool:
        if named and entry.job_id not in named:
            return False
        if entry.removed and not removed:
            return False
        if host and host not in (entry.host, entry.loaded.host):
            return False
        definition = entry.definition
        if tag and (definition is None or tag not in definition.tags):
            return False
        if not needle or needle in entry.job_id.casefold():
            return True
        return definition is not None and needle in definition.description.casefold()

    return wanted


def _counts(entries: Sequence[Job], conditions: Sequence[Sequence[_Condition]]) -> list[job_pb2.JobCount]:
    """Return how many jobs are in each condition, have each tag, run on each host, and belong to each host."""
    held = Counter(condition for each in conditions for condition in each)
    tags = Counter(tag for entry in entries if entry.definition for tag in dict.fromkeys(entry.definition.tags))
    hosts = Counter(entry.host for entry in entries if entry.host)
    owners = Counter(entry.owner for entry in entries if entry.owner and not entry.foreign)
    return [
        *(job_pb2.JobCount(condition=number, jobs=held[number]) for number in sorted(held)),
        *(job_pb2.JobCount(tag=tag, jobs=tags[tag]) for tag in sorted(tags)),
        *(job_pb2.JobCount(host=host, jobs=hosts[host]) for host in sorted(hosts)),
        *(job_pb2.JobCount(owner=owner, jobs=owners[owner]) for owner in sorted(owners)),
    ]
