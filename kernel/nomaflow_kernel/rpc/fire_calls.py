"""ListFires: the coming fires of the jobs that the caller may read."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TypeVar

from msgspec import Struct

from nomaflow_api.bounds import LAST_MOMENT_US
from nomaflow_api.v1 import fire_pb2
from nomaflow_api.v1.message_codec import encode, timestamp
from nomaflow_kernel.access.grants import Verb
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.domain.clock import from_us, to_us
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.engine.state import RecentlyUsed
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.rpc.figure_calls import median_seconds
from nomaflow_kernel.rpc.guard import target_of
from nomaflow_kernel.rpc.job_pages import same_jobs
from nomaflow_kernel.rpc.parts import Calls, KernelParts
from nomaflow_kernel.rpc.requests import check_most, check_name, check_place, moment_us
from nomaflow_kernel.scheduler.fire_plan import FirePlan, Owner, collisions
from nomaflow_kernel.scheduler.frequent_fires import Overlaps

_RANGE = timedelta(days=31, hours=1)
"""31 days, even if a change of the clocks makes one of them longer."""
_DAY = timedelta(days=1)
_LIMIT = 1000
_MOST = 10_000
_LAST_RUNS = 20
_JOBS_AT_ONCE = 200
_JOBS_WITH_FIGURES = 1000
"""Jobs whose usual time is looked up: those that fire first."""
_GOOD_US = 60_000_000
"""How long a job's usual time is used: it hardly changes, and reading the last runs of 1,000 jobs takes a while."""
_STEPS_PER_TURN = 50
_MOST_KEPT, _MOST_FIRES_KEPT = 8, 2_000
_T = TypeVar("_T")


class Basis(Struct, frozen=True, kw_only=True):
    """The jobs, pauses and beginning that an answer is made from.

    :param begin_us: the first instant that it covers
    :param jobs: those that the caller may read and asks for
    """

    begin_us: int
    jobs: Sequence[Job]
    pauses: Sequence[PauseRecord]


class _KeptAnswer(Struct, frozen=True, kw_only=True):
    """One answer.

    :param before_us: it is right for every beginning before that instant, at which something fires
    :param until_us: until when it may be used
    """

    basis: Basis
    before_us: int
    until_us: int
    answer: fire_pb2.ListFiresResponse

    def answers(self, asked: Basis, now_us: int) -> bool:
        return (
            now_us < self.until_us
            and self.basis.begin_us <= asked.begin_us < self.before_us
            and same_jobs(self.basis.jobs, asked.jobs)
            and self.basis.pauses == asked.pauses
        )


class KeptFires:
    """The answers given last, by what was asked for, each until a fire is due or something in it changes.

    A page of the schedule asks for the same days again whenever a run begins or ends.
    """

    def __init__(self) -> None:
        self._kept: RecentlyUsed[Hashable, _KeptAnswer] = RecentlyUsed(_MOST_KEPT)

    def of(self, asked_for: Hashable, basis: Basis, *, now_us: int) -> fire_pb2.ListFiresResponse | None:
        """Return the answer if it is kept and still right; nobody may change it."""
        kept = self._kept.find(asked_for)
        return kept.answer if kept is not None and kept.answers(basis, now_us) else None

    def keep(self, asked_for: Hashable, basis: Basis, answer: fire_pb2.ListFiresResponse, *, until_us: int) -> None:
        """Keep an answer, at most until an instant: what is usual for a job does change, if slowly.

        :param asked_for: all but the beginning, which moves on with the clock
        """
        due = [*(fire.at for fire in answer.fires[:1]), *(each.next for each in answer.frequent)]
        before_us = min((moment.ToMicroseconds() for moment in due), default=LAST_MOMENT_US)
        if before_us <= basis.begin_us or len(answer.fires) > _MOST_FIRES_KEPT:
            return
        self._kept.put(asked_for, _KeptAnswer(basis=basis, before_us=before_us, until_us=until_us, answer=answer))


async def _by_turns(steps: Iterable[_T]) -> list[_T]:
    """Return the result of some steps, between which other tasks have a turn."""
    made = []
    for number, step in enumerate(steps):
        if number % _STEPS_PER_TURN == 0:
            await asyncio.sleep(0)
        made.append(step)
    return made


class FireCalls(Calls):
    """Serves ListFires."""

    def __init__(self, parts: KernelParts) -> None:
        super().__init__(parts)
        self._answers = KeptFires()
        self._usual: dict[tuple[str, str], tuple[int, float | None]] = {}

    async def list_fires(self, request: fire_pb2.ListFiresRequest, caller: Caller) -> fire_pb2.ListFiresResponse:
        """Return the fires of a range in order of time, with what they collide with."""
        plan = self._plan(request)
        basis = Basis(begin_us=to_us(plan.begin), jobs=[*self._jobs(request, caller)], pauses=[*self._engine.pauses()])
        asked_for = (plan.end, plan.limit, request.host, request.tag, request.job_id, caller.principal.name)
        answer = self._answers.of(asked_for, basis, now_us=self._clock.now_us())
        if answer is None:
            answer = await self._answer(plan, basis.jobs)
            unchanged = [*self._engine.pauses()] == basis.pauses  # the clock went on while other tasks had their turns
            if unchanged and request.HasField("until"):
                self._answers.keep(asked_for, basis, answer, until_us=self._clock.now_us() + _GOOD_US)
        return answer

    async def _answer(self, plan: FirePlan, jobs: Iterable[Job]) -> fire_pb2.ListFiresResponse:
        for job in jobs:
            assert job.definition is not None
            for schedule in job.definition.schedules():
                owner = Owner(job_id=job.job_id, host=job.host, preset=schedule.preset)
                plan.add(owner, schedule.expression, schedule.timezone)
        await _by_turns(plan.work())
        seconds = await self._usual_seconds(
            [*(fire.owner for fire in plan.fires), *(each.owner for each in plan.frequent)]
        )
        found = collisions(plan, seconds, paused=lambda fire: self._is_paused(fire.owner, fire.moment.at_us))
        fires = await _by_turns(
            encode(
                fire_pb2.ListedFire,
                fire.moment,
                fire.owner,
                at=fire.moment.at_us,
                at_once=at_once,
                collides_with=others,
                expected_seconds=seconds.get(fire.owner.job_id),
                paused=self._is_paused(fire.owner, fire.moment.at_us),
            )
            for fire, at_once, others in found
        )
        overlaps = Overlaps(plan=plan, seconds=seconds, paused=self._is_paused)
        await _by_turns(overlaps.work())
        frequent = sorted(plan.frequent, key=lambda each: (each.owner.job_id, each.owner.preset))
        return fire_pb2.ListFiresResponse(
            fires=fires,
            frequent=[
                encode(
                    fire_pb2.FrequentSchedule,
                    each,
                    each.owner,
                    schedule=each.expression,
                    expected_seconds=seconds.get(each.owner.job_id),
                    paused=self._is_paused(each.owner, to_us(each.next)),
                    collides_with=overlaps.found.get(each.owner),
                )
                for each in frequent[:_MOST]
            ],
            listed_until=timestamp(plan.listed_until),
        )

    def _plan(self, request: fire_pb2.ListFiresRequest) -> FirePlan:
        check_place(request)
        check_name(request.tag, "tag")
        check_most(request.limit, _MOST, "limit")
        since_us, until_us = moment_us(request, "since"), moment_us(request, "until")
        begin = from_us(self._clock.now_us() if since_us is None else since_us)
        end = min(begin, datetime.max.replace(tzinfo=UTC) - _DAY) + _DAY if until_us is None else from_us(until_us)
        if end <= begin:
            raise BadRequest("until is not later than since, expected a later time", field="until")
        if end - begin > _RANGE:
            raise BadRequest("until lies more than 31 days after since; ask for a shorter time", field="until")
        return FirePlan(begin=begin, end=end, limit=request.limit or _LIMIT)

    def _jobs(self, request: fire_pb2.ListFiresRequest, caller: Caller) -> Iterable[Job]:
        """Yield the jobs with fires among those that the request asks for and the caller may read."""
        reads_all = caller.principal.may_all(Verb.READ)
        for job in self._catalogue.jobs():
            if not job.runnable or job.definition is None:
                continue
            if request.job_id not in ("", job.job_id) or request.host not in ("", job.host):
                continue
            if request.tag and request.tag not in job.definition.tags:
                continue
            if reads_all or caller.principal.may(Verb.READ, target_of(job)):
                yield job

    async def _usual_seconds(self, owners: Iterable[Owner]) -> dict[str, float | None]:
        hosts = dict(islice({owner.job_id: owner.host for owner in owners}.items(), _JOBS_WITH_FIGURES))
        now_us = self._clock.now_us()
        usual = {key: known for key, known in self._usual.items() if 0 <= now_us - known[0] < _GOOD_US}
        unknown = [job_id for job_id, host in hosts.items() if (job_id, host) not in usual]
        for start in range(0, len(unknown), _JOBS_AT_ONCE):
            job_ids = unknown[start : start + _JOBS_AT_ONCE]
            recent = await self._store.recent_runs(job_ids, last=_LAST_RUNS)
            for job_id in job_ids:
                runs = [run for run in recent.get(job_id, ()) if run.host == hosts[job_id]]
                usual[job_id, hosts[job_id]] = now_us, median_seconds(runs)
        self._usual = usual
        return {job_id: usual[job_id, host][1] for job_id, host in hosts.items()}

    def _is_paused(self, owner: Owner, at_us: int) -> bool:
        return self._engine.pause_of(owner.job_id, owner.host, at_us) is not None
