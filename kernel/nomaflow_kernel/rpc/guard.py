"""The guard: checks a call against the policy before the service sees it, and says what a caller may see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nomaflow_kernel.access.grants import EVERYTHING, Target, Verb
from nomaflow_kernel.access.policy import RULES, About, Rule
from nomaflow_kernel.access.principals import Caller, NotAuthenticated, NotPermitted, Principal, PrincipalKind
from nomaflow_kernel.access.quotas import Quotas
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.catalogue.registry import Catalogue
from nomaflow_kernel.domain.clock import SystemClock
from nomaflow_kernel.history.ids import is_run_id
from nomaflow_kernel.history.lookups import RunSubject, VisibleRuns
from nomaflow_kernel.hosts.registry import SessionRegistry
from nomaflow_project.models.settings_file import QuotaSection

_MOST_TRIGGERS = 1000
"""A batch of more is refused, and must not put its caller in debt for hours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Guard:
    """Checks calls. The owner passes at once, without any look-up.

    :param subjects: returns the subjects of the runs that exist
    """

    catalogue: Catalogue
    sessions: SessionRegistry
    subjects: Callable[[Sequence[str]], Awaitable[Sequence[RunSubject]]]
    quotas: Quotas

    @classmethod
    def blind(cls) -> Guard:
        """Return the guard of a kernel that stands by, and knows no jobs, runs or hosts."""

        async def no_subjects(_run_ids: Sequence[str]) -> Sequence[RunSubject]:
            return ()

        quotas = Quotas(limits=QuotaSection(), clock=SystemClock())
        return cls(catalogue=Catalogue(), sessions=SessionRegistry(), subjects=no_subjects, quotas=quotas)

    def admit(self, method: str, caller: Caller) -> Rule:
        """Check what can be checked before a request is read, and count the call; return the method's rule.

        :raises NotAuthenticated: if the caller has no good credential
        :raises NotPermitted: if no request of this method could be permitted
        :raises QuotaExceeded: if the caller makes too many calls
        """
        rule = self.readmit(method, caller)
        if not caller.principal.is_owner:
            self.quotas.call(caller.principal, method.rpartition("/")[2])
        return rule

    def readmit(self, method: str, caller: Caller) -> Rule:
        """Check again what can be checked without the request: a credential may have been withdrawn since.

        :raises NotAuthenticated: if the caller has no good credential
        :raises NotPermitted: if no request of this method could be permitted
        """
        rule = RULES.get(method)
        principal = caller.principal
        if principal.is_owner and rule is not None:
            return rule
        if principal.kind is PrincipalKind.ANYONE and not (rule is not None and rule.open):
            raise NotAuthenticated
        if rule is None or not _may_call(rule, principal):
            needs = rule.verb if rule is not None and rule.verb is not None else ""
            raise NotPermitted(principal, "call", method.rpartition("/")[2], needs=needs)
        return rule

    async def check(self, rule: Rule, request: Any, caller: Caller) -> None:
        """Check a request's target, and count the runs that it would start.

        :raises NotPermitted: if the caller may not do this to the target, or may not know that there is none
        :raises QuotaExceeded: if it asks for too much
        """
        if rule.verb is None or caller.principal.is_owner:
            return
        self.quotas.triggers(caller.principal, _triggers(rule, request))
        of_place = rule.about is About.PLACE
        if rule.about is About.RUN:
            await self._check_run(rule, request.run_id, caller)
        elif rule.about is About.JOB or (of_place and request.job_id):
            self._check_job(rule.verb, request.job_id, caller)
        elif rule.about is About.HOST or ((of_place or rule.about is About.HOST_OR_ONLY) and request.host):
            self._check_host(rule.verb, request.host, caller)
        elif of_place or rule.about is About.EVERYTHING:
            caller.require(rule.verb, EVERYTHING)

    def job_refusal(self, verb: Verb, job_id: str, caller: Caller) -> NotPermitted | None:
        """Return the error of a caller that may not do something to a job, or may not know that there is none."""
        permitted = caller.principal.may(verb, self.target_of_job(job_id))
        may_know = _may_know(caller.principal)
        if self.catalogue.job(job_id) is None:
            permitted = permitted and may_know
        return None if permitted else NotPermitted(caller.principal, verb, f"job:{job_id}", may_know=may_know)

    def sees_values(self, job_id: str, host: str, caller: Caller) -> bool:
        """Return whether a caller may see params, extras and errors of a job's runs.

        :param host: the one that ran them
        """
        principal = caller.principal
        return principal.is_owner or principal.may(Verb.LOGS, self._target_of_run(job_id, host))

    def sees_run(self, job_id: str, host: str, caller: Caller) -> bool:
        """Return whether a caller may read the runs of a job that a host has run."""
        principal = caller.principal
        return principal.is_owner or principal.may(Verb.READ, self._target_of_run(job_id, host))

    def visible_runs(self, principal: Principal) -> VisibleRuns | None:
        """Return which runs a principal may read; None for all."""
        if principal.may_all(Verb.READ):
            return None
        scopes = [grant.scope for grant in principal.grants if grant.verb is Verb.READ]
        tags = frozenset(scope.name for scope in scopes if scope.kind == "tag")
        tagged = (job for job in self.catalogue.jobs() if not tags.isdisjoint(_tags_of_runs(job))) if tags else ()
        return VisibleRuns(
            job_ids=tuple(sorted({scope.name for scope in scopes if scope.kind == "job"})),
            prefixes=tuple(sorted({scope.name for scope in scopes if scope.kind == "prefix"})),
            hosts=tuple(sorted({scope.name for scope in scopes if scope.kind == "host"})),
            jobs_of_hosts=tuple(sorted((job.job_id, job.host) for job in tagged)),
        )

    async def targets_of_runs(self, run_ids: Sequence[str]) -> Mapping[str, Target]:
        """Return the targets of the runs that exist."""
        found = await self.subjects([each for each in run_ids if is_run_id(each)])
        return {each.run_id: self._target_of_run(each.job_id, each.host) for each in found}

    async def targets_of_replay(self, run_id: str) -> Sequence[Target]:
        """Return the targets that a replay of a run is about: that run, and the job where the new one goes."""
        found = await self.subjects([run_id])
        jobs = [job for run in found if (job := self.catalogue.job(run.job_id)) is not None]
        return [*(self._target_of_run(run.job_id, run.host) for run in found), *map(target_of, jobs)]

    def target_of_job(self, job_id: str) -> Target:
        """Return the target of a job id, whether there is such a job or not."""
        job = self.catalogue.job(job_id)
        return Target(job_id=job_id) if job is None else target_of(job)

    def _target_of_run(self, job_id: str, host: str) -> Target:
        """Return the target that a run stands for, from its job and the host that ran it.

        The job's present tags count only if it still belongs to that host: a host that brings a job now does not open
        what others have run under its id.
        """
        job = self.catalogue.job(job_id)
        tags = () if job is None or job.host != host else _tags_of_runs(job)
        return Target(job_id=job_id, host=host, tags=tags)

    def _check_job(self, verb: Verb, job_id: str, caller: Caller) -> None:
        refusal = self.job_refusal(verb, job_id, caller)
        if refusal is not None:
            raise refusal

    def _check_host(self, verb: Verb, host: str, caller: Caller) -> None:
        permitted, may_know = caller.principal.may(verb, Target(host=host)), _may_know(caller.principal)
        if not permitted or not (may_know or self._knows_host(host)):
            raise NotPermitted(caller.principal, verb, f"host:{host}", may_know=may_know)

    def _knows_host(self, host: str) -> bool:
        attached = bool(self.sessions.of_host(host))
        return bool(host) and (attached or any(each.host == host for each in self.catalogue.hosts()))

    async def _check_run(self, rule: Rule, run_id: str, caller: Caller) -> None:
        found = await self.subjects([run_id]) if is_run_id(run_id) else ()
        assert rule.verb is not None
        principal = caller.principal
        may_know = _may_know(principal)
        permitted = bool(found) or may_know
        for run in found:
            target, job = self._target_of_run(run.job_id, run.host), self.catalogue.job(run.job_id)
            permitted = principal.may(rule.verb, target)
            if permitted and rule.verb is Verb.TRIGGER and job is not None:  # the new run goes where the job is now
                permitted = principal.may(rule.verb, target_of(job))
            if permitted and rule.others is not None and run.author != str(principal):
                permitted = principal.may(rule.others, target)
                if not permitted and principal.may(Verb.READ, target):
                    raise NotPermitted(principal, rule.verb, f"{run_id}, a run of somebody else", needs=rule.others)
        if not permitted:
            raise NotPermitted(principal, rule.verb, run_id, may_know=may_know)


def target_of(job: Job) -> Target:
    """Return what grants look at in a job of the catalogue."""
    tags = () if job.definition is None else job.definition.tags
    return Target(job_id=job.job_id, host=job.host, tags=tuple(tags))


def _tags_of_runs(job: Job) -> tuple[str, ...]:
    """Return the present tags of a job that count for its runs on its host."""
    return () if job.foreign or job.unaccepted else target_of(job).tags


def _may_call(rule: Rule, principal: Principal) -> bool:
    """Return whether some request of a method could be permitted to a principal. A host may do what hosts do."""
    if rule.open:
        return True
    if principal.kind is PrincipalKind.HOST or rule.about is About.HOST_ITSELF:
        return principal.kind is PrincipalKind.HOST and rule.about is About.HOST_ITSELF
    return rule.verb is None or principal.may_some(rule.verb)


def _triggers(rule: Rule, request: Any) -> int:
    """Return how many runs a request would start."""
    if rule.verb is not Verb.TRIGGER:
        return 0
    return min(len(request.requests), _MOST_TRIGGERS) if rule.about is About.ITEMS else 1


def _may_know(principal: Principal) -> bool:
    """Return whether a principal may learn that something does not exist."""
    return principal.may_all(Verb.READ)
