"""The guard: checks a call against the policy before the service sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nomaflow_kernel.access.grants import EVERYTHING, Target, Verb
from nomaflow_kernel.access.policy import RULES, About, Rule
from nomaflow_kernel.access.principals import Caller, NotAuthenticated, NotPermitted, PrincipalKind

__all__ = ["Guard", "RunFacts"]

RunFacts = tuple[Target, str]
"""The job of a run, and who triggered it."""


class Guard:
    """Checks calls. The owner passes at once; nothing is looked up for him.

    :param job: returns the target that a job id stands for; None if there is no such job
    :param run: returns what a run id stands for; None if there is no such run
    :param hosts: whether there is a host of a name
    """

    def __init__(
        self,
        *,
        job: Callable[[str], Target | None],
        run: Callable[[str], Awaitable[RunFacts | None]],
        host: Callable[[str], bool],
    ) -> None:
        self._job = job
        self._run = run
        self._host = host

    def admit(self, method: str, caller: Caller) -> Rule:
        """Check what can be checked before a request is read; return the method's rule.

        :raises NotAuthenticated: if the caller has no good credential
        :raises NotPermitted: if no request of this method could be permitted
        """
        rule = RULES.get(method)
        principal = caller.principal
        if principal.kind is PrincipalKind.OWNER and rule is not None:
            return rule
        if principal.kind is PrincipalKind.ANYONE and not (rule is not None and rule.open):
            raise NotAuthenticated
        if rule is None or (rule.verb is not None and not principal.may_some(rule.verb)):
            raise NotPermitted(principal, "call", method.rpartition("/")[2])
        return rule

    async def check(self, rule: Rule, request: Any, caller: Caller) -> None:
        """Check a request's target.

        :raises NotPermitted: if the caller may not do this to the target, or may not know that there is none
        """
        if rule.verb is None or caller.principal.kind is PrincipalKind.OWNER:
            return
        if rule.about is About.EVERYTHING:
            caller.require(rule.verb, EVERYTHING)
        elif rule.about is About.JOB:
            self._check_job(rule.verb, request.job_id, caller)
        elif rule.about is About.HOST:
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

    def job_refusal(self, verb: Verb, job_id: str, caller: Caller) -> NotPermitted | None:
        """Return the error of a caller that may not do something to a job, or may not know that there is none."""
        target = self._job(job_id)
        if target is None:
            permitted = caller.principal.may_all(Verb.READ) and caller.principal.may(verb, Target(job_id=job_id))
        else:
            permitted = caller.principal.may(verb, target)
        return None if permitted else NotPermitted(caller.principal, verb, f"job:{job_id}")

    def _check_job(self, verb: Verb, job_id: str, caller: Caller) -> None:
        refusal = self.job_refusal(verb, job_id, caller)
        if refusal is not None:
            raise refusal

    def _check_host(self, verb: Verb, host: str, caller: Caller) -> None:
        permitted = caller.principal.may(verb, Target(host=host))
        if not permitted or not (caller.principal.may_all(Verb.READ) or self._host(host)):
            raise NotPermitted(caller.principal, verb, f"host:{host}")

    async def _check_run(self, rule: Rule, run_id: str, caller: Caller) -> None:
        found = await self._run(run_id)
        verb = rule.verb
        assert verb is not None
        if found is None:
            permitted = caller.principal.may_all(Verb.READ)
        else:
            target, author = found
            if rule.others is not None and author.partition(" ")[0] != str(caller.principal):
                verb = rule.others
            permitted = caller.principal.may(verb, target)
        if not permitted:
            raise NotPermitted(caller.principal, verb, run_id)
