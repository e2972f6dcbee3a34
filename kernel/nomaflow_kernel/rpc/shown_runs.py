"""Runs as one caller may see them, with the facts that only the engine knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.message_codec import encode, timestamp
from nomaflow_kernel.access.grants import Target, Verb
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.engine.engine import Engine
from nomaflow_kernel.rpc.guard import Guard
from nomaflow_kernel.rpc.hidden_values import run_without_values


class ShownRuns:
    """Takes out of a run what its caller may not see, and adds why it waits."""

    def __init__(self, *, guard: Guard, engine: Engine) -> None:
        self._guard, self._engine = guard, engine

    async def shown(self, runs: Iterable[run_pb2.Run], caller: Caller) -> list[run_pb2.Run]:
        """Return runs as their caller may see them: a caller that may cancel one need not be allowed to read it."""
        seen = [self._shown(run, caller) for run in runs]
        await self.hide_ancestors(seen, caller)
        return seen

    async def hide_ancestors(self, runs: Sequence[run_pb2.Run], caller: Caller) -> None:
        """Take the runs that led to others, and that the caller may not read, out of these."""
        principal, ancestors = caller.principal, {each.run_id for run in runs for each in run.parent_chain}
        if not ancestors or principal.may_all(Verb.READ):
            return
        targets = await self._guard.targets_of_runs(sorted(ancestors))
        for run in runs:
            # One that retention has removed no longer has a host, and so no tags.
            kept = [
                each
                for each in run.parent_chain
                if principal.may(Verb.READ, targets.get(each.run_id) or Target(job_id=each.job_id))
            ]
            del run.parent_chain[:]
            run.parent_chain.extend(kept)

    def _shown(self, run: run_pb2.Run, caller: Caller) -> run_pb2.Run:
        if not self._guard.sees_run(run.job_id, run.host, caller):
            return run_pb2.Run(run_id=run.run_id, job_id=run.job_id, state=run.state)
        if not self._guard.sees_values(run.job_id, run.host, caller):
            run_without_values(run)
        if run.state in (run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_RUNNING):
            attempts = {each.attempt_key for step in run.steps for each in step.attempts} if run.steps else None
            if (reason := self._engine.holdup(run.run_id, attempts)) is not None:
                run.reason.CopyFrom(encode(run_pb2.Reason, reason))
            if (deadline_us := self._engine.deadline_us(run.run_id)) is not None:
                run.deadline_at.CopyFrom(timestamp(deadline_us))
        return run
