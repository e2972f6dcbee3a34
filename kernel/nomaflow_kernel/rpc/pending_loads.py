"""The wait for code that is being loaded, before a trigger: a run uses the files that were saved before it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.hosts.errors import HostLoading, HostNotAttached
from nomaflow_kernel.hosts.session import Session
from nomaflow_kernel.rpc.parts import KernelParts

_WAIT_SECONDS = 2.0
_ANSWER_SECONDS = 2.5  # a host limits itself to two seconds for either question


class PendingLoads:
    """The loads of the hosts that may change a job."""

    def __init__(self, parts: KernelParts) -> None:
        self._jobs, self._sessions = parts.catalogue, parts.sessions

    async def settled(self, job_id: str) -> tuple[str, ...] | HostLoading:
        """Wait for the loads that may change a job, at most two seconds; return warnings, or the hosts that load."""
        if not self._sessions.restless:
            return ()
        loading = await self._await_job(job_id)
        if loading:
            return HostLoading(job_id, loading)
        job = self._runnable(job_id)
        watching = [session for session in self._sessions.watching() if job is None or session.hello.host == job.host]
        answers = await asyncio.gather(*(ask(session, gateway.CheckCommand(settle=True)) for session in watching))
        late = {
            session.hello.host
            for session, answer in zip(watching, answers, strict=True)
            if answer is None or not answer.settled
        }
        if late and self._runnable(job_id) is None:
            return HostLoading(job_id, late)
        return tuple(
            f"host {host!r} is still loading the saved files; the run uses the code loaded before" for host in late
        )

    async def _await_job(self, job_id: str) -> Collection[str]:
        """Wait while a host that may bring the job is loading; return the hosts that are still loading."""
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                while loading := self._loading(job_id):
                    await self._sessions.changed()
        except TimeoutError:
            return loading
        return ()

    def _loading(self, job_id: str) -> Collection[str]:
        """Return the loading hosts that may bring a job that, as far as known, cannot run."""
        if self._runnable(job_id) is not None:
            return ()
        job = self._jobs.job(job_id)
        return [host for host in self._sessions.loading() if job is None or host in ("", job.host)]

    def _runnable(self, job_id: str) -> Job | None:
        job = self._jobs.job(job_id)
        return job if job is not None and job.runnable else None


async def ask(session: Session, command: gateway.CheckCommand) -> gateway.CheckResult | None:
    """Return a host's answer; None if it gives none."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await session.check(command)
    except (TimeoutError, HostNotAttached):
        return None
