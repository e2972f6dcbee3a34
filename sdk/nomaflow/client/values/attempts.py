"""Views of attempts: their stops, ends and stored logs, and what their hosts see of running ones."""

from __future__ import annotations

from datetime import datetime

from nomaflow.client.values.shapes import NullableCount, NullableText, Shaped

__all__ = ["AttemptLogView", "ExitView", "InspectionView", "ProcessView", "RungView", "StackView", "StopView"]


class ExitView(Shaped, frozen=True, kw_only=True):
    """The end of an attempt's process.

    :param status: the exit status, None if a signal ended it
    :param signal: the signal's number, 0 for none
    :param text: the end in words
    """

    status: int | None = None
    signal: NullableCount = 0
    text: str = ""


class AttemptLogView(Shaped, frozen=True, kw_only=True):
    """The stored part of an attempt's log.

    :param first_seq: the first line in the run's log, 0 if there is none
    :param last_seq: the last one; lines of other attempts may lie between
    :param dropped_lines: lines that were over the limit of the log
    :param levels: the levels that occur: bit n is set for levels 10·n to 10·n+9
    :param complete: True once the attempt's last report is stored: no line is missing except the dropped ones
    :param lost_lines: lines that the host lost; more may be missing if the log is not complete
    """

    first_seq: NullableCount = 0
    last_seq: NullableCount = 0
    lines: int = 0
    dropped_lines: int = 0
    dropped_bytes: int = 0
    lost_lines: int = 0
    levels: int = 0
    complete: bool = False


class RungView(Shaped, frozen=True, kw_only=True):
    """One rung of the ladder by which an attempt was stopped.

    :param rung: 1 asked, 2 an exception, 3 SIGTERM, 4 SIGKILL; the first ones may be left out
    :param what: what was done
    :param why: why; for a later rung, why the one before was not enough
    :param at: when, by the host's clock
    :param after_seconds: seconds since the first rung
    :param next_at: when the next one follows if the code has not stopped by then; None on the last
    """

    rung: int
    what: str = ""
    why: NullableText = ""
    at: datetime | None = None
    after_seconds: float = 0.0
    next_at: datetime | None = None


class StopView(Shaped, frozen=True, kw_only=True):
    """The stop of an attempt; ``stopped_at`` is when none of its code ran any more, by the host's clock."""

    rungs: tuple[RungView, ...] = ()
    stopped_at: datetime | None = None


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
