"""Runs as one caller may see them, with the facts that only the engine knows."""

from __future__ import annotations

from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.message_codec import encode, timestamp
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.rpc.discretion import run_without_values
from nomaflow_kernel.rpc.parts import KernelParts


class RunSight:
    """Takes out of a run what its caller may not see, and adds why it waits."""

    def __init__(self, parts: KernelParts) -> None:
        self._guard, self._engine = parts.guard, parts.engine

    def shown(self, run: run_pb2.Run, caller: Caller) -> run_pb2.Run:
        """Return a run as its caller may see it: a caller that may cancel it need not be allowed to read it."""
        if not self._guard.sees_run(run.job_id, run.host, caller):
            return run_pb2.Run(run_id=run.run_id, job_id=run.job_id, state=run.state)
        if not self._guard.sees_values(run.job_id, run.host, caller):
            run_without_values(run)
        return self.explain(run)

    def explain(self, run: run_pb2.Run) -> run_pb2.Run:
        """Return the run, with its current reason for waiting and its deadline if it is not over."""
        if run.state in (run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_RUNNING):
            reason = self._engine.holdup(run.run_id)
            if reason is not None:
                run.reason.CopyFrom(encode(run_pb2.Reason, reason))
            deadline_us = self._engine.deadline_us(run.run_id)
            if deadline_us is not None:
                run.deadline_at.CopyFrom(timestamp(deadline_us))
        return run
