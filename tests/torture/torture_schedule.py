"""Makes a schedule from a seed: requests to the system, and faults meanwhile. Pure, so repeatable."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Fault", "Order", "Schedule", "make_schedule"]

_SPAN_MS = 450
"""Orders and faults are spread over this time; steps take about as long."""

_KERNEL_COMMITS = ("trigger", "intent", "accept", "log", "result", "end", "cancel")
_KERNEL_SENDS = ("welcome", "dispatch", "cancel", "heartbeat_ack")
_KERNEL_CALLS = ("TriggerRun", "CancelRun", "Report")
KERNEL_POINTS = (
    *(f"commit.{kind}.{side}" for kind in _KERNEL_COMMITS for side in ("before", "after")),
    *(f"{name}.{side}" for name in _KERNEL_SENDS for side in ("before", "after")),
    *(f"{name}.{moment}" for name in _KERNEL_CALLS for moment in ("received", "reply.before", "reply.after")),
)
HOST_POINTS = (
    "report.before", "report.sent", "report.acked", "accept.before", "accept.after", "cancel.before", "cancel.after",
    "finished.before", "finished.after", "spill.before", "spill.after",
)  # fmt: skip
_LASTING_JOBS = ("waits", "waits_for_a_child")
_JOBS = ("quick", "busy", "talks", "tells_secrets", "fails_once", "may_run_twice", "calls")
_NETS = ("blackhole", "drop_up", "drop_down", "delay", "reset", "refuse", "half_open_host", "half_open_kernel")


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One trigger.

    :param cancel_after_ms: when a cancel is asked for, counted from the answer; None for never
    :param again_after_ms: when the same request is sent a second time, beside the first; None for never
    """

    at_ms: int
    job: str
    params: dict[str, Any] = field(default_factory=dict)
    cancel_after_ms: int | None = None
    again_after_ms: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that happens to the system.

    :param kind: ``kill``, ``stop`` (SIGTERM), ``freeze``, ``net``, ``point`` or ``reload``
    :param target: a process, what befalls the network, or a failpoint as ``process:point``
    :param ms: how long a freeze, or what befalls the network, lasts
    :param action: of a failpoint; ``skip`` is how many times it is passed before
    """

    at_ms: int
    kind: str
    target: str
    ms: int = 0
    action: str = ""
    skip: int = 0

    @property
    def ends_steps(self) -> bool:
        """True if it may fail steps, because it kills their process or the one that looks after it."""
        if self.kind == "point":
            return self.action == "kill" and self.target.startswith("host:")
        return self.kind == "kill" and self.target != "kernel"

    def __str__(self) -> str:
        """Say what it is in a line."""
        parts = [self.kind, self.target, self.action, f"for {self.ms} ms" if self.ms else ""]
        return " ".join(filter(None, [*parts, f"after {self.skip} passes" if self.skip else ""]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The schedule of one seed.

    :param restart_ms: how long a killed kernel, and a killed host, stays away
    :param resume_at: a draw from 0 to 1: where a second watcher takes up the events
    """

    seed: int
    orders: tuple[Order, ...]
    faults: tuple[Fault, ...]
    restart_ms: dict[str, int]
    resume_at: float


def make_schedule(seed: int) -> Schedule:
    """Return the schedule of a seed, always the same one.

    Two failpoints of one process in one schedule: the later one takes the place of the earlier, if that has not fired.
    """
    rng = random.Random(f"torture {seed}")
    orders = [_order(rng, rng.choice(_JOBS)) for _ in range(rng.randint(3, 5))]
    orders.append(_cancelled(rng))
    if rng.random() < 0.5:
        orders.append(_order(rng, "talks"))
    faults = [_fault(rng) for _ in range(rng.choice((1, 2, 2, 3, 4)))]
    return Schedule(
        seed=seed,
        orders=tuple(sorted(orders, key=lambda order: order.at_ms)),
        faults=tuple(sorted(faults, key=lambda fault: fault.at_ms)),
        restart_ms={"kernel": rng.choice((0, 0, 100, 400)), "host": rng.choice((0, 0, 100, 400))},
        resume_at=rng.random(),
    )


def _order(rng: random.Random, job: str) -> Order:
    return Order(
        at_ms=rng.randint(0, _SPAN_MS // 2),
        job=job,
        params={"seconds": round(rng.uniform(0.01, 0.35), 3)},
        cancel_after_ms=rng.randint(0, _SPAN_MS) if rng.random() < 0.15 else None,
        again_after_ms=rng.choice((0, 5, 100, 300)) if rng.random() < 0.3 else None,
    )


def _cancelled(rng: random.Random) -> Order:
    return Order(
        at_ms=rng.randint(0, _SPAN_MS // 3), job=rng.choice(_LASTING_JOBS), cancel_after_ms=rng.randint(0, _SPAN_MS)
    )


def _fault(rng: random.Random) -> Fault:
    at_ms = rng.randint(0, _SPAN_MS)
    draw = rng.random()
    if draw < 0.30:
        return _point(rng, at_ms, "kernel", rng.choice(KERNEL_POINTS), rng.choice(("kill", "kill", "kill", "freeze")))
    if draw < 0.46:
        return _store_failure(rng, at_ms)
    if draw < 0.58:
        return _point(rng, at_ms, "host", rng.choice(HOST_POINTS), rng.choice(("kill", "kill", "freeze")))
    if draw < 0.63:
        return Fault(at_ms=at_ms, kind=rng.choice(("kill", "kill", "stop")), target="kernel")
    if draw < 0.75:
        target = rng.choice(("host", "worker", "worker", "template", "reaper"))
        return Fault(at_ms=at_ms, kind="kill", target=target)
    if draw < 0.86:
        target = rng.choice(("kernel", "host", "worker", "template", "reaper"))
        return Fault(at_ms=at_ms, kind="freeze", target=target, ms=_duration(rng))
    if draw < 0.97:
        return Fault(at_ms=at_ms, kind="net", target=rng.choice(_NETS), ms=_duration(rng))
    return Fault(at_ms=at_ms, kind="reload", target="host")


def _duration(rng: random.Random) -> int:
    """Return milliseconds: mostly few, and now and then more than a lease of two seconds."""
    return rng.choice((50, 200, 500, 1000)) if rng.random() < 0.9 else rng.randint(2300, 3500)


def _store_failure(rng: random.Random, at_ms: int) -> Fault:
    action = rng.choice(("busy", "unavailable", "unknown", "unknown"))
    side = "after" if action == "unknown" else "before"
    return _point(rng, at_ms, "kernel", f"commit.{rng.choice(_KERNEL_COMMITS)}.{side}", action)


def _point(rng: random.Random, at_ms: int, process: str, point: str, action: str) -> Fault:
    return Fault(
        at_ms=at_ms // 2,
        kind="point",
        target=f"{process}:{point}",
        action=action,
        ms=rng.randint(50, 400) if action == "freeze" else 0,
        skip=rng.choice((0, 0, 0, 1, 2)),
    )
