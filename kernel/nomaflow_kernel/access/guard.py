"""The guard: checks a call against the policy before the service sees it, and says what a caller may see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nomaflow_kernel.access.grants import EVERYTHING, Target, Verb
from nomaflow_kernel.access.policy import RULES, About, Rule
from nomaflow_kernel.access.principals import Caller, NotAuthenticated, NotPermitted, Principal, PrincipalKind
from nomaflow_kernel.access.quotas import Quotas
from nomaflow_kernel.history.lookups import VisibleRuns

__all__ = ["Guard", "RunFacts"]

_MOST_TRIGGERS = 1000
"""A batch of more is refused, and must not put its caller in debt for hours."""

RunFacts = tuple[Target, str]
"""What a run id stands for: its target, and the principal that triggered it; empty for a schedule or another run."""


class Guard:
    """Checks calls. The owner passes at once, without any look-up.

    :param job: returns the target that a job id stands for; None if there is no such job
    :param jobs: returns the targets of the jobs whose tags count for their runs
    :param run: returns the target that a run stands for, from its job and the host that ran it
    :param runs: returns what run ids stand for, without the unknown ones
    :param host: whether there is a host of a name
    :param quotas: None for no limits
    """

    def __init__(
        self,
        *,
        job: Callable[[str], Target | None],
        jobs: Callable[[], Iterable[Target]],
        run: Callable[[str, str], Target],
        runs: Callable[[Sequence[str]], Awaitable[Mapping[str, RunFacts]]],
        host: Callable[[str], bool],
        quotas: Quotas | None = None,
    ) -> None:
        self._job = job
        self._jobs = jobs
        self._run = run
        self._runs = runs
        self._host = host
        self._quotas = quotas

    @classmethod
    def blind(cls) -> Guard:
        """Return the guard of a kernel that knows no jobs, runs or hosts, such as one that stands by."""

        async def no_runs(_run_ids: Sequence[str]) -> Mapping[str, RunFacts]:
            return {}

        def of_host(job_id: str, host: str) -> Target:
            return Target(job_id=job_id, host=host)

        return cls(job=lambda _: None, jobs=lambda: (), run=of_host, runs=no_runs, host=lambda _: False)

    def admit(self, method: str, caller: Caller) -> Rule:
        """Check what can be checked before a request is read, and count the call; return the method's rule.

        :raises NotAuthenticated: if the caller has no good credential
        :raises NotPermitted: if no request of this method could be permitted
        :raises QuotaExceeded: if the caller makes too many calls
        """
        rule = self.readmit(method, caller)
        if self._quotas is not None and caller.principal.kind is not PrincipalKind.OWNER:
            self._quotas.call(caller.principal, method.rpartition("/")[2])
        return rule

    def readmit(self, method: str, caller: Caller) -> Rule:
        """Check again what can be checked without the request: a credential may have been withdrawn since.

        :raises NotAuthenticated: if the caller has no good credential
        :raises NotPermitted: if no request of this method could be permitted
        """
        rule = RULES.get(method)
        principal = caller.principal
        if principal.kind is PrincipalKind.OWNER and rule is not None:
            return rule
        if principal.kind is PrincipalKind.ANYONE and not (rule is not None and rule.open):
            raise NotAuthenticated
        if rule is None or not _may_call(rule, principal):
            needs = rule.verb if rule is not None and rule.verb is not None else ""
            raise NotPermitted(principal, "call", method.rpartition("/")[2], needs=needs)
        return rule

    async def check(self, rule: Rule, request: Any, caller: Caller) -> None:
        """Check a request's target, and count what it asks for.

        :raises NotPermitted: if the caller may not do this to the target, or may not know that there is none
        :raises QuotaExceeded: if it asks for too much
        """
        if rule.verb is None or caller.principal.kind is PrincipalKind.OWNER:
            return
        if self._quotas is not None:
            self._quotas.request(caller.principal, request.ByteSize(), _triggers(rule, request))
        if rule.about is About.EVERYTHING:
            caller.require(rule.verb, EVERYTHING)
        elif rule.about is About.JOB:
            self._check_job(rule.verb, request.job_id, caller)
        elif rule.about is About.HOST or (rule.about is About.HOST_OR_ONLY and request.host):
            self._check_host(rule.verb, request.host, caller)
        elif rule.about is About.PLACE:
            if request.job_id:
                self._check_job(rule.verb, request.job_id, caller)
            elif request.host:
                self._check_host(rule.verb, request.host, caller)
            else:
                caller.require(rule.verb, EVERYTHING)
        elif rule.about is About.RUN:
            await self._check_run(rule, request.run_id, caller)

    def stream(self, caller: Caller) -> AbstractContextManager[None]:
        """Return a context that counts a stream while it is open; entering one too many raises QuotaExceeded."""
        return nullcontext() if self._quotas is None else self._quotas.stream(caller.principal)

    def message(self, caller: Caller, size: int) -> None:
        """Count a message that a caller sends on a stream.

        :param size: its bytes
        :raises QuotaExceeded: if it is too much
        """
        if self._quotas is not None:
            self._quotas.message(caller.principal, size)

    def job_refusal(self, verb: Verb, job_id: str, caller: Caller) -> NotPermitted | None:
        """Return the error of a caller that may not do something to a job, or may not know that there is none."""
        target = self._job(job_id)
        if target is None:
            permitted = _may_know(caller.principal) and caller.principal.may(verb, Target(job_id=job_id))
        else:
            permitted = caller.principal.may(verb, target)
        return None if permitted else NotPermitted(caller.principal, verb, f"job:{job_id}")

    def sees_values(self, job_id: str, host: str, caller: Caller) -> bool:
        """Return whether a caller may see params, extras and errors of a job's runs.

        :param host: the one that ran them
        """
        principal = caller.principal
        return principal.kind is PrincipalKind.OWNER or principal.may(Verb.LOGS, self._run(job_id, host))

    def sees_run(self, job_id: str, host: str, caller: Caller) -> bool:
        """Return whether a caller may read the runs of a job that a host has run."""
        principal = caller.principal
        return principal.kind is PrincipalKind.OWNER or principal.may(Verb.READ, self._run(job_id, host))

    def visible_runs(self, principal: Principal) -> VisibleRuns | None:
        """Return which runs a principal may read; None for all."""
        if principal.may_all(Verb.READ):
            return None
        scopes = [grant.scope for grant in principal.grants if grant.verb is Verb.READ]
        tags = frozenset(scope.name for scope in scopes if scope.kind == "tag")
        tagged = (job for job in self._jobs() if not tags.isdisjoint(job.tags)) if tags else ()
        return VisibleRuns(
            job_ids=tuple(sorted({scope.name for scope in scopes if scope.kind == "job"})),
            prefixes=tuple(sorted({scope.name for scope in scopes if scope.kind == "prefix"})),
            hosts=tuple(sorted({scope.name for scope in scopes if scope.kind == "host"})),
            jobs_of_hosts=tuple(sorted((job.job_id, job.host) for job in tagged)),
        )

    async def targets_of_runs(self, run_ids: Sequence[str]) -> Mapping[str, Target]:
        """Return the targets of the runs that exist."""
        return {run_id: target for run_id, (target, _) in (await self._runs(run_ids)).items()}

    def target_of_job(self, job_id: str) -> Target:
        """Return the target of a job id, whether there is such a job or not."""
        return self._job(job_id) or Target(job_id=job_id)

    def _check_job(self, verb: Verb, job_id: str, caller: Caller) -> None:
        refusal = self.job_refusal(verb, job_id, caller)
        if refusal is not None:
            raise refusal

    def _check_host(self, verb: Verb, host: str, caller: Caller) -> None:
        permitted = caller.principal.may(verb, Target(host=host))
        if not permitted or not (_may_know(caller.principal) or (host and self._host(host))):
            raise NotPermitted(caller.principal, verb, f"host:{host}")

    async def _check_run(self, rule: Rule, run_id: str, caller: Caller) -> None:
        found = (await self._runs((run_id,))).get(run_id)
        assert rule.verb is not None
        if found is None:
            permitted = _may_know(caller.principal)
        else:
            target, author = found
            permitted = caller.principal.may(rule.verb, target)
            if rule.others is not None and author != str(caller.principal):
                permitted = permitted and caller.principal.may(rule.others, target)
        if not permitted:
            raise NotPermitted(caller.principal, rule.verb, run_id)  # the same words whether there is such a run or not


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
