"""Starting work: attempts that continue a run first, then waiting runs in fair order."""

from __future__ import annotations

from nomaflow_kernel.engine import child_runs, explaining, own_instances, stepping
from nomaflow_kernel.engine.placement import full_kinds
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.history.records import NO_HOST, QueuedRun
from nomaflow_kernel.history.states import AttemptState

_LOADED_TOGETHER = 100


def start_due(state: EngineState, batch: Batch) -> None:
    """Tell parents of the ends of their children, and dispatch all possible work on the hosts that had a change."""
    while state.dirty_hosts or state.ended_children:
        if state.ended_children:
            child_runs.child_ended(state, batch, *state.ended_children.popleft())
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
            child_runs.call_job(state, batch, run)
        elif not stepping.dispatch(state, batch, run):
            queue.append(run_id)


def _start_runs(state: EngineState, batch: Batch, host: str) -> None:
    own_instances.start_awaited(state, batch, host)

    full: set[bool] = set()

    def may_start(entry: QueuedRun) -> bool:
        # The kind first: if thousands of jobs wait for one kind of slot, none of them is looked at closely.
        if full and explaining.slot_kind(state, entry) in full:
            return False
        return explaining.waiting_reason(state, entry) is None

    while state.waiting.count_of_host(host):
        if host != NO_HOST and len(full := full_kinds(state, host)) == 2:
            return
        entry = state.waiting.next_of(host, may_start)
        if entry is None:
            return
        run = state.specs.pop(entry.run_id, None)
        if run is None:
            # It is this run's turn, but its data is not in memory: it keeps its place while the data is loaded, and the
            # runs behind it wait.
            # All hosts together must not ask for more than is kept: it would be dropped before it is used.
            together = max(1, min(_LOADED_TOGETHER, state.specs.size // max(1, len(state.waiting.hosts()))))
            state.wanted_specs.update(
                following.run_id
                for following in state.waiting.coming(host, together)
                if following.run_id not in state.specs and not following.large
            )
            state.wanted_specs.add(entry.run_id)
            return
        state.waiting.take(entry)
        stepping.start_run(state, batch, run)


def attempt_due(state: EngineState, _batch: Batch, run_id: str) -> None:
    """Put a run whose back-off is over in line for a slot."""
    run = state.active.get(run_id)
    if run is not None and run.current is not None and run.current.state is AttemptState.PENDING:
        state.await_turn(run)
