"""Instances that were started for one attempt: which may attach, which are not needed, and the runs that they start."""

from __future__ import annotations

from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.engine import explaining, stepping
from nomaflow_kernel.engine.host_messages import InstanceHello
from nomaflow_kernel.engine.reporting import find_attempt
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.history.states import AttemptState


def refusal(state: EngineState, hello: InstanceHello) -> KernelError | None:
    """Return why an instance may not attach for its attempt; None if it may, or has none.

    One that holds the attempt has something to report, and is let in.
    """
    key = hello.for_attempt
    if not key or any(line.attempt_key == key for line in hello.inventory):
        return None
    found = find_attempt(state, key)
    holder = found[1].incarnation if found is not None and found[0].host == hello.host else ""
    if not holder and not _is_wanted(state, key, hello.host):
        return _not_wanted(key)
    waiting = state.fleet.own(key)
    holder = holder or (waiting.incarnation if waiting is not None else hello.incarnation)
    if holder == hello.incarnation:
        return None
    why = f"attempt {key!r} belongs to instance {holder!r} already; this one is not needed"
    return KernelError(why, reason="ATTEMPT_TAKEN")


def _not_wanted(key: str) -> KernelError:
    why = f"attempt {key!r} waits for no instance of its own: it is over, or not known here"
    return KernelError(f"{why}; this instance is not needed", reason="ATTEMPT_NOT_WANTED")


def end_unwanted(state: EngineState) -> None:
    """End the sessions of instances whose attempt has ended before they were given it."""
    for instance in state.fleet.unused():
        key = instance.hello.for_attempt
        if instance.link is not None and not _is_wanted(state, key, instance.host):
            instance.link.refuse(_not_wanted(key))


def start_awaited(state: EngineState, batch: Batch, host: str) -> None:
    """Start the QUEUED runs whose own instance has attached; the engines start instances in any order."""
    for instance in state.fleet.unused():
        run_id = instance.hello.for_attempt.partition("/")[0]
        entry = state.waiting.get(run_id)
        if instance.host != host or entry is None or not instance.serves:
            continue
        run = state.specs.find(run_id)
        if run is None:
            state.wanted_specs.add(run_id)
        elif _awaits(state, run_id, instance.hello.for_attempt) and explaining.waiting_reason(state, entry) is None:
            state.waiting.remove(run_id)
            del state.specs[run_id]
            stepping.start_run(state, batch, run)


def _is_wanted(state: EngineState, key: str, host: str) -> bool:
    """Return whether an attempt waits for an instance of its own; True for a run whose data is not in memory."""
    found = find_attempt(state, key)
    if found is not None:
        run, current = found
        return run.host == host and current.step.wants_instance and current.state is AttemptState.PENDING
    run_id = key.partition("/")[0]
    entry = state.waiting.get(run_id)
    return entry is not None and entry.job_host == host and (run_id not in state.specs or _awaits(state, run_id, key))


def _awaits(state: EngineState, run_id: str, key: str) -> bool:
    """Return whether the first attempt of a QUEUED run has the key and wants an instance of its own."""
    run = state.specs.find(run_id)
    first = None if run is None else run.plan.first
    return run is not None and first is not None and first.wants_instance and run.key_of(first) == key
