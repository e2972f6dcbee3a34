"""The observable parts of a leading kernel."""

from __future__ import annotations

from dataclasses import dataclass

from nomaflow_kernel.engine import Engine
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.port import StoreInfo
from nomaflow_kernel.hosts import SessionRegistry
from nomaflow_kernel.scheduler import Scheduler

__all__ = ["KernelView"]


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelView:
    """The parts to observe, for one term of leadership."""

    info: StoreInfo
    engine: Engine
    scheduler: Scheduler
    sessions: SessionRegistry
    feed: EventFeed
