"""The overlap policy of a job: what becomes of a run while others of its job wait or run."""

from __future__ import annotations

from nomaflow_kernel.engine.commands import Draft
from nomaflow_kernel.engine.state import EngineState
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import QueuedRun
from nomaflow_project.jobs.definitions import JobDefinition, Overlap


def policy_and_refusal(state: EngineState, draft: Draft) -> tuple[Overlap, Reason | None]:
    """Return the overlap policy of a run, and why it would be skipped, if it would.

    The policies are those of the job as it is today, even for the replay of an older definition.
    """
    job_id, current = draft.job_id, state.jobs.job(draft.job_id)
    policy = current.definition if current is not None and current.definition is not None else draft.definition
    overlap = Overlap.ALLOW if draft.request.allow_overlap else policy.overlap
    if overlap is Overlap.SKIP and state.is_active(job_id):
        running = next(iter(state.running.get(job_id, ())), "")
        other = f"{running} was still running" if running else f"{state.waiting.of_job(job_id)[0]} was still waiting"
        return overlap, Reason("overlap", f'skipped: {other} (overlap = "skip")')
    if overlap is Overlap.QUEUE and state.waiting.count_of_job(job_id) >= policy.max_queued:
        why = f"skipped: {policy.max_queued} runs of the job were already waiting (max_queued)"
        return overlap, Reason("overlap", why)
    return overlap, None


def runs_alone(job: JobDefinition, entry: QueuedRun) -> bool:
    """Return whether a waiting run may not start while another of its job runs."""
    return job.overlap in (Overlap.QUEUE, Overlap.CANCEL_RUNNING) and not entry.allow_overlap
