"""The overlap policy of a job: what becomes of a new run, and of the others that wait or run."""

from __future__ import annotations

from nomaflow_kernel.engine import stopping
from nomaflow_kernel.engine.commands import Draft
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import CancelRequest
from nomaflow_project.jobs.definitions import Overlap


def policy_and_refusal(state: EngineState, draft: Draft) -> tuple[Overlap, Reason | None]:
    """Return the overlap policy of a run, and why it would be skipped, if it would.

    The policies are those of the job as it is today, even for the replay of an older definition.
    """
    job_id, policy = draft.job_id, state.jobs.definition(draft.job_id) or draft.definition
    overlap = Overlap.ALLOW if draft.request.allow_overlap else policy.overlap
    if overlap is Overlap.SKIP and state.is_active(job_id):
        others = [f"{run_id} was still running" for run_id in state.running.get(job_id, ())]
        others += [f"{each.run_id} was still waiting" for each in state.waiting.of_job(job_id, 1)]
        return overlap, Reason("overlap", f'skipped: {others[0]} (overlap = "skip")')
    if overlap is Overlap.QUEUE and state.waiting.count_of_job(job_id) >= policy.max_queued:
        runs = "1 run of the job was" if policy.max_queued == 1 else f"{policy.max_queued} runs of the job were"
        return overlap, Reason("overlap", f"skipped: {runs} already waiting (max_queued)")
    return overlap, None


def cancel_others(state: EngineState, batch: Batch, job_id: str, *, by: str) -> None:
    """Request that all other runs of a job stop, waiting ones too: a newer one replaces them."""
    cancel = CancelRequest(at_us=batch.now_us, by=by, why="a newer run replaces it", code="canceled_by_overlap")
    for run_id in [*(each.run_id for each in state.waiting.of_job(job_id)), *state.running.get(job_id, ())]:
        stopping.request_cancel(state, batch, run_id, cancel)
