"""Views of a running attempt: its processes and stacks, as its host sees them."""

from __future__ import annotations

from datetime import datetime

from nomaflow.client.values.shapes import NullableText, Shaped

__all__ = ["InspectionView", "ProcessView", "StackView"]


class ProcessView(Shaped, frozen=True, kw_only=True):
    """One process of an attempt's worker.

    :param state: the operating system's letter, such as ``S`` for sleeping
    :param command: its command line, known secrets masked; empty if it is not shown
    """

    pid: int
    ppid: int
    started_at: datetime | None = None
    state: str = ""
    rss_bytes: int = 0
    cpu_seconds: float = 0.0
    command: NullableText = ""


class StackView(Shaped, frozen=True, kw_only=True):
    """The stack of one Python thread or task.

    :param frames: innermost last, each ``file:line function``
    :param of_attempt: True if it runs the attempt that was asked for
    """

    name: str
    frames: tuple[str, ...] = ()
    of_attempt: bool = False


class InspectionView(Shaped, frozen=True, kw_only=True):
    """A running attempt as its host saw it; ``note`` says what it could not see."""

    attempt_key: str
    host: str
    processes: tuple[ProcessView, ...] = ()
    stacks: tuple[StackView, ...] = ()
    note: NullableText = ""
    seen_at: datetime | None = None
