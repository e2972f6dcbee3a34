"""Starting work: attempts that continue a run first, then waiting runs in fair order."""

from __future__ import annotations

from nomaflow_kernel.engine import calling, stepping
from nomaflow_kernel.engine.state import NO_HOST, Batch, EngineState
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import QueuedRun
from nomaflow_kernel.history.states import AttemptState
from nomaflow_project.jobs.definitions import Overlap

__all__ = ["attempt_due", "start_due", "waiting_reason", "why_not_running"]

_LOADED_TOGETHER = 100


def start_due(state: EngineState, batch: Batch) -> None:
    """Tell parents of the ends of their children, and dispatch all possible work on the hosts that had a change."""
    while state.dirty_hosts or state.ended_children:
        if state.ended_children:
            calling.child_ended(state, batch, *state.ended_children.popleft())
            continue
        host = state.dirty_hosts.pop()
        _continue_runs(state, batch, host)
        _start_runs(state, batch, host)


def _continue_runs(state: EngineState, batch: Batch, host: str) -> None:
    queue = state.continuing.get(host)
    if not queue:
        return
    for _ in range(len(queue)):
        run_id = queue.popleft()
        run = state.active.get(run_id)
        if run is None or run.current is None or run.current.state is not AttemptState.PENDING:
            continue
        if run.current.step.calls_job:
            calling.call_job(state, batch, run)
        elif not stepping.dispatch(state, batch, run):
            queue.append(run_id)


def _start_runs(state: EngineState, batch: Batch, host: str) -> None:
    def may_start(entry: QueuedRun) -> bool:
        return waiting_reason(state, entry) is None

    while state.waiting.count_of_host(host):
        if not _has_room(state, host):
            return
        entry = state.waiting.take(host, may_start)
        if entry is None:
            return
        run = state.specs.pop(entry.run_id)
        if run is None:
            # It is this run's turn, but its data is not in memory: it keeps its place while the data is loaded, and the
            # runs behind it wait.
            state.waiting.add(entry, first=True)
            state.wanted_specs.update(
                run_id for run_id in state.waiting.next_ids(host, _LOADED_TOGETHER) if run_id not in state.specs
            )
            state.wanted_specs.add(entry.run_id)
            return
        stepping.start_run(state, batch, run)


def attempt_due(state: EngineState, run_id: str) -> None:
    """Put a run whose back-off is over in line for a slot."""
    run = state.active.get(run_id)
    if run is not None and run.current is not None and run.current.state is AttemptState.PENDING:
        state.await_turn(run)


def why_not_running(state: EngineState, job_id: str) -> str:
    """Return in one sentence why no run of a job is running; empty if one is or nothing blocks it."""
    job = state.jobs.job(job_id)
    if job is None or state.running.get(job_id):
        return ""
    if job.removed:
        return f"host {job.host!r} no longer has the job"
    if not job.valid:
        return job.why_not_valid
    if job.loaded.held:
        return job.loaded.held
    waiting = state.waiting.of_job(job_id)
    entry = state.waiting.get(waiting[0]) if waiting else None
    if entry is None:
        entry = QueuedRun(run_id="", job_id=job_id, host=job.host, priority=0, queued_at_us=0)
    reason = waiting_reason(state, entry)
    if reason is not None:
        return reason.message
    if not waiting and job.definition is not None and not job.loaded.enabled and not any(job.definition.schedules()):
        return "its schedule is switched off (enabled = false); it runs when it is started"
    return ""


def _has_room(state: EngineState, host: str) -> bool:
    return host == NO_HOST or any(state.pick(host, exclusive=kind) is not None for kind in (False, True))


def waiting_reason(state: EngineState, entry: QueuedRun) -> Reason | None:
    """Return why a waiting run does not start, or None if it may start now."""
    job = state.jobs.job(entry.job_id)
    pause = state.pause_of(entry.job_id, job.host if job else entry.host)
    if pause is not None:
        what = "everything is" if pause.scope == "all" else f"{pause.scope} {pause.name!r} is"
        why = f": {pause.why}" if pause.why else ""
        return Reason("waiting_for_resume", f"{what} paused{why}")
    definition = job.definition if job is not None else None
    running = len(state.running.get(entry.job_id, ()))
    one_at_a_time = definition is not None and definition.overlap in (Overlap.QUEUE, Overlap.CANCEL_RUNNING)
    if one_at_a_time and running and not entry.allow_overlap:
        return Reason("waiting_for_overlap", f"another run of job {entry.job_id!r} is active")
    if definition is not None and definition.max_parallel is not None and running >= definition.max_parallel:
        return Reason("waiting_for_slot", f"{running} runs of job {entry.job_id!r} are already running (max_parallel)")
    return _waits_for_host(state, entry)


def _waits_for_host(state: EngineState, entry: QueuedRun) -> Reason | None:
    if entry.host == NO_HOST:
        return None
    run = state.specs.get(entry.run_id)
    first = run.plan.first if run is not None else None
    if first is None or first.calls_job:
        return None if state.fleet.has_serving(entry.host) else stepping.waits(state, entry.host)
    exclusive = state.uses_exclusive(entry.host, first)
    return None if state.pick(entry.host, exclusive=exclusive) else stepping.waits(state, entry.host)
