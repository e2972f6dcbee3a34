"""Instances that attach, leave, come back, or are replaced by another process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from nomaflow_api.v1.letter_words import VerdictAction
from nomaflow_api.v1.letters import InventoryLine, Verdict
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.engine import own_instances, stepping
from nomaflow_kernel.engine.active_run import ActiveRun
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.host_messages import InstanceHello, InstanceKey, InstanceLink, LoadInfo, RefusedLoad
from nomaflow_kernel.engine.orders import cancel_order, dispatch_order
from nomaflow_kernel.engine.placement import is_exclusive
from nomaflow_kernel.engine.reporting import find_attempt
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.history.event_kinds import NoticeKind
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.states import AttemptState
from nomaflow_kernel.history.transitions import Notice


def attach(
    state: EngineState, batch: Batch, hello: InstanceHello, link: InstanceLink
) -> Sequence[Verdict] | KernelError:
    """Attach an instance and return a verdict on each attempt it holds, or why it is refused.

    Attempts that are assigned to it and that it does not hold never started: they are sent again with the same key.
    Attempts of earlier instances that are thereby proved dead have failed.
    """
    for incarnation in hello.ended_incarnations:
        ended = state.fleet.get((hello.host, incarnation))
        if ended is not None and _may_tell_of(hello, ended.hello):
            why = f"the main process of host {ended.host!r} died while the step ran"
            told = "a later instance says that this one has ended"
            _settle_ended(state, batch, ended, Reason("host_crashed", why), told=told)
    refused = own_instances.refusal(state, hello)
    if refused is not None:
        return refused
    instance = _introduce(state, batch, hello, link)
    held = {item.attempt_key for item in hello.inventory}
    verdicts = [_judge(state, hello, item) for item in hello.inventory]
    for key in list(instance.attempts):
        found = find_attempt(state, key)
        if key not in held and found is not None:
            run, _ = found
            batch.send(hello.key, dispatch_order(state, run, instance, batch.now))
            if run.cancel is not None:
                batch.send(hello.key, cancel_order(key, run.cancel))
    state.dirty_hosts.add(hello.host)
    return verdicts


def _may_tell_of(hello: InstanceHello, ended: InstanceHello) -> bool:
    """Return whether an instance is believed when it says that another one has ended: only on its own machine.

    For an instance that attached to an earlier kernel, only the host is known.
    """
    if ended.incarnation == hello.incarnation:
        return False
    return not ended.principal or (ended.machine, ended.principal) == (hello.machine, hello.principal)


def _introduce(state: EngineState, batch: Batch, hello: InstanceHello, link: InstanceLink) -> Instance:
    instance = state.fleet.get(hello.key)
    returning = instance is not None
    if instance is None:
        instance = Instance(hello=hello)
    elif instance.link is not None and instance.link is not link:
        instance.link.end("a newer session of the same instance has taken over")
    instance.hello, instance.link, instance.attached_at_us = hello, link, batch.now_us
    instance.used = instance.used or bool(hello.inventory)
    state.fleet.add(instance)
    instance.take(hello.heartbeat, batch.now, batch.now_us)
    tell_here("host.reattached" if returning else "host.attached", instance, batch)
    _take_refusal(batch, instance, hello.refused_load)
    return instance


def tell_here(kind: NoticeKind, instance: Instance, batch: Batch) -> None:
    """Record that an instance has attached, or that it is back: attached again, or heard again."""
    notify(batch, instance, kind, pid=instance.hello.pid, machine=instance.hello.machine)


def take_load(state: EngineState, batch: Batch, key: InstanceKey, load: LoadInfo) -> None:
    """Record the result of an instance's newest load, with an event for watchers."""
    instance = state.fleet.get(key)
    if instance is None:
        return
    _take_refusal(batch, instance, load.refused, by=load.by)
    if load.refused is None:
        told = {**structs.asdict(load), "problems": [problem.to_json() for problem in load.problems]}
        del told["refused"]
        notify(batch, instance, "host.reloaded", **told)


def _take_refusal(batch: Batch, instance: Instance, refused: RefusedLoad | None, *, by: str = "") -> None:
    """Set or clear an instance's refused load. A refusal that was reported before makes no event."""
    known, instance.refused_load = instance.refused_load, refused
    if refused is None or (known is not None and known.at_us == refused.at_us):
        return
    problems = [problem.to_json() for problem in refused.problems]
    notify(
        batch,
        instance,
        "host.reload_refused",
        by=by,
        generation=instance.heartbeat.generation,
        message=refused.message,
        problems=problems,
    )


def notify(batch: Batch, instance: Instance, kind: NoticeKind, *, by: str = "", **data: Any) -> None:
    """Add an event about an instance."""
    data = {"incarnation": instance.incarnation, **data}
    batch.add(Notice(kind=kind, host=instance.host, by=by, data=data))


def _judge(state: EngineState, hello: InstanceHello, held: InventoryLine) -> Verdict:
    cancel, seq = None, 0
    found, ended = find_attempt(state, held.attempt_key), state.ended.find(held.attempt_key)
    if found is not None and found[0].host == hello.host:
        run, current = found
        seq = current.report_seq
        if current.incarnation != hello.incarnation:
            action, seq = VerdictAction.KILL, 0
        elif run.cancel is not None:
            action, cancel = VerdictAction.CANCEL, cancel_order(current.key, run.cancel)
        else:
            action = VerdictAction.KEEP
    elif ended is not None and ended.host == hello.host and ended.result_is_wanted:
        # Its result is still wanted, as an event. An attempt that the history does not know, because it was restored
        # from a backup, is killed instead: nobody could see it or stop it, and its run may be triggered again.
        action, seq = VerdictAction.KEEP, ended.final_seq
    else:
        action = VerdictAction.FORGET if held.ended else VerdictAction.KILL
    return Verdict(attempt_key=held.attempt_key, action=action, acknowledged_seq=seq, cancel=cancel)


def declare_ended(state: EngineState, batch: Batch, key: InstanceKey, *, evidence: str, by: str) -> int | None:
    """End the attempts of an instance that is certainly gone; return their number, None if it is not known.

    If it lives after all, its session ends. It attaches again, and is told to kill what it still runs.
    """
    instance = state.fleet.get(key)
    if instance is None:
        return None
    reason = Reason("host_ended", f"host {instance.host!r} has ended, as {by} has declared: {evidence}")
    ended = _settle_ended(state, batch, instance, reason, told=f"{by} declares that this one has ended: {evidence}")
    notify(batch, instance, "host.ended", by=by, evidence=evidence, attempts=ended)
    state.dirty_hosts.add(instance.host)
    return ended


def _settle_ended(state: EngineState, batch: Batch, instance: Instance, reason: Reason, *, told: str) -> int:
    """Fail the attempts of an instance that has left nothing running, and forget it; return their number.

    :param told: the reason given for the end of its session, if it has one
    """
    runs = runs_of(state, instance)
    state.forget(instance, batch.now, batch.now_us)  # first, so that no next try goes to it
    for run in runs:
        stepping.conclude(state, batch, run, AttemptState.FAILED, reason)
    if instance.link is not None:
        instance.link.end(told)
    return len(runs)


def runs_of(state: EngineState, instance: Instance) -> list[ActiveRun]:
    """Return the runs whose current attempts an instance holds."""
    found = (find_attempt(state, key) for key in list(instance.attempts))
    return [pair[0] for pair in found if pair is not None]


def await_instance(state: EngineState, run: ActiveRun, now: float, now_us: int) -> None:
    """Expect, at the kernel's start, the instance that a stored attempt is assigned to. Its clocks start now."""
    current = run.current
    if current is None or not current.incarnation:
        return
    instance = state.fleet.get(run.instance)
    if instance is None:
        # An earlier kernel has assigned attempts to it; more is not known of it.
        instance = Instance(hello=InstanceHello(host=run.host, incarnation=current.incarnation))
        instance.heard(now, now_us)
        state.fleet.add(instance)
    step = current.step
    exclusive = is_exclusive(state, run.host, step.isolation, step.callable)
    instance.hold(current.key, exclusive=exclusive, needs=step.resources)


def detach(state: EngineState, batch: Batch, key: InstanceKey, link: InstanceLink) -> None:
    """Detach an instance whose session has ended. A session that a newer one replaced changes nothing."""
    instance = state.fleet.get(key)
    if instance is None or instance.link is not link:
        return
    instance.link = None
    notify(batch, instance, "host.detached")
    if not instance.attempts:
        state.forget(instance, batch.now, batch.now_us)
