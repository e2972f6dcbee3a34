"""The timeline of a run: what each try did when, as rows of bars and marks along one axis of time.

Places are per cent of the axis, so that a page can draw them at any width without a script.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from nomaflow_console.views.durations import took
from nomaflow_console.views.states import LOST, NOT_REACHED, StateSign, attempt_sign, sign_of
from nomaflow_console.views.tries import few_tries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nomaflow.client.values import AttemptView, RunView, StepView

_MOST_MARKS = 40
_MOST_DEPTH = 3
_STEPS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
    3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000, 31536000,
)  # fmt: skip
_MOST_TICKS = 6
_RELATIVE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A time at which a try logged something of a level: the block of lines that holds it begins then.

    :param kind: ``warning`` or ``error``
    """

    step: str
    attempt: int
    at: datetime
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A stretch of time.

    :param kind: ``wait``, ``run`` or ``backoff``
    :param x: where it begins, in per cent of the axis
    :param width: in per cent of the axis
    :param seconds: how long it is
    :param open: True if it still grows
    """

    kind: str
    x: float
    width: float
    seconds: float
    open: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A point in time.

    :param kind: ``warning``, ``error``, ``failed``, ``rung`` or ``stopped``
    :param x: in per cent of the axis
    :param label: the number of a rung; else empty
    :param title: what happened, for a person
    """

    kind: str
    x: float
    label: str = ""
    title: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One try, or a step without one.

    :param depth: 0 for the run's own steps, 1 for those of a run that it called, and so on
    :param first: True on the first row of its step, which shows the step's name
    :param attempt: None if the step has no try, and for tries that are left out
    :param run_id: the run that it belongs to
    :param note: what to say instead of a bar: why there is none
    """

    step: str
    depth: int
    first: bool
    sign: StateSign
    run_id: str
    attempt: AttemptView | None = None
    bars: tuple[Bar, ...] = ()
    marks: tuple[Mark, ...] = ()
    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A line across the axis.

    :param x: in per cent of the axis
    :param at: the time that it stands for
    :param after: the time since the axis begins in words, if the axis is too short for times of day; else empty
    """

    x: float
    at: datetime
    after: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """The timeline of a run. Without rows there is nothing to draw."""

    start: datetime
    end: datetime
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]


def timeline(
    run: RunView,
    *,
    now: datetime,
    moments: Iterable[Moment] = (),
    children: Mapping[str, RunView] | None = None,
) -> Timeline:
    """Return the timeline of a run.

    :param run: with its steps
    :param now: the end of the axis while the run is open
    :param moments: the times of warnings and errors
    :param children: runs that call_job steps of it started, with their steps, by id
    """
    start = run.queued_at or now
    end = max(run.finished_at or now, start + timedelta(milliseconds=1))
    drawing = _Drawing(_Axis(start, end), now, children or {})
    for moment in moments:
        drawing.moments.setdefault((moment.step, moment.attempt), []).append(moment)
    rows = tuple(drawing.rows(run, depth=0)) if run.steps else ()
    return Timeline(start=start, end=end, rows=rows, ticks=_ticks(start, end))


class _Axis:
    def __init__(self, start: datetime, end: datetime) -> None:
        self._start = start
        self._span = (end - start).total_seconds()

    def x(self, at: datetime) -> float:
        """Return the place of a time; one outside of the axis is moved to its nearest end."""
        return round(min(max((at - self._start).total_seconds() / self._span, 0.0), 1.0) * 100, 3)

    def bar(self, kind: str, start: datetime, end: datetime | None, now: datetime) -> Iterator[Bar]:
        """Yield a bar, unless it has no length."""
        left, right = self.x(start), self.x(end or now)
        seconds = ((end or now) - start).total_seconds()
        if seconds > 0 or end is None:
            yield Bar(kind=kind, x=left, width=round(max(right - left, 0), 3), seconds=seconds, open=end is None)


class _Drawing:
    def __init__(self, axis: _Axis, now: datetime, children: Mapping[str, RunView]) -> None:
        self._axis = axis
        self._now = now
        self._children = children
        self.moments: dict[tuple[str, int], list[Moment]] = {}

    def rows(self, run: RunView, depth: int) -> Iterator[Row]:
        """Yield the rows of a run's steps, each with those of the runs that it called."""
        due = run.queued_at or self._now
        for step in run.steps:
            if not step.attempts:
                yield _without_try(run, step, depth)
            first = True
            for attempt, left_out in few_tries(step.attempts):
                if left_out:
                    yield Row(
                        step=step.name, depth=depth, first=False, sign=sign_of("FAILED"), run_id=run.run_id,
                        note=f"{left_out:,} more tries",
                    )  # fmt: skip
                    due = max(due, attempt.finished_at or due)
                    continue
                yield self._row(run, step, attempt, due, depth=depth, first=first)
                first = False
                due = max(due, attempt.finished_at or due)
                child = self._children.get(attempt.child_run_id)
                if child is not None and depth < _MOST_DEPTH:
                    yield from self.rows(child, depth + 1)

    def _row(
        self, run: RunView, step: StepView, attempt: AttemptView, due: datetime, *, depth: int, first: bool
    ) -> Row:
        skipped = attempt.state == "SKIPPED" and attempt.started_at is None
        return Row(
            step=step.name,
            depth=depth,
            first=first,
            sign=NOT_REACHED if skipped else LOST if attempt.state == "LOST" else attempt_sign(attempt),
            run_id=run.run_id,
            attempt=attempt,
            bars=() if skipped else tuple(self._bars(run, attempt, due)),
            marks=tuple(self._marks(step, attempt, depth)),
            seconds=_seconds(attempt, self._now),
            note=_why(attempt, "not reached") if skipped else "",
        )

    def _bars(self, run: RunView, attempt: AttemptView, due: datetime) -> Iterator[Bar]:
        """Yield back-off, wait and work. A clock of a host that is off cannot turn them round."""
        axis, now = self._axis, self._now
        ended = attempt.finished_at or (run.finished_at if run.terminal else None)
        ready = due
        if attempt.not_before is not None and attempt.not_before > due:
            ready = min(attempt.not_before, ended or attempt.not_before)
            yield from axis.bar("backoff", due, ready if ready <= now else None, now)
        if ready > now:
            return
        if attempt.started_at is None:
            yield from axis.bar("wait", ready, ended, now)
            return
        began = max(attempt.started_at, ready)
        yield from axis.bar("wait", ready, began, now)
        yield from axis.bar("run", began, max(ended, began) if ended else None, now)

    def _marks(self, step: StepView, attempt: AttemptView, depth: int) -> Iterator[Mark]:
        told = self.moments.get((step.name, attempt.attempt), []) if depth == 0 else []
        for moment in _spread(told):
            yield Mark(kind=moment.kind, x=self._axis.x(moment.at), title=f"{moment.kind} logged")
        if attempt.stop is not None:
            for rung in attempt.stop.rungs:
                if rung.at is not None:
                    yield Mark(kind="rung", x=self._axis.x(rung.at), label=str(rung.rung), title=rung.what)
            if attempt.stop.stopped_at is not None:
                yield Mark(kind="stopped", x=self._axis.x(attempt.stop.stopped_at), title="nothing of it runs any more")
        if attempt.state in ("FAILED", "LOST") and attempt.finished_at is not None:
            yield Mark(kind="failed", x=self._axis.x(attempt.finished_at), title=_why(attempt, "failed"))


def _without_try(run: RunView, step: StepView, depth: int) -> Row:
    """Return the row of a step that has no try: it is switched off, was not reached, or has not started."""
    if not step.enabled:
        note = "switched off"
    elif run.terminal:
        note = "not reached: an earlier step ended the run" if run.started_at else "not reached: the run did not start"
    else:
        note = "not started yet"
    sign = NOT_REACHED if run.terminal else sign_of("PENDING")
    return Row(step=step.name, depth=depth, first=True, sign=sign, run_id=run.run_id, note=note)


def _spread(moments: Sequence[Moment]) -> Sequence[Moment]:
    """Return at most 40 of the moments, errors first, spread over all of them."""
    if len(moments) <= _MOST_MARKS:
        return moments
    errors = [moment for moment in moments if moment.kind == "error"]
    others = [moment for moment in moments if moment.kind != "error"]
    every = max(1, len(others) // (_MOST_MARKS // 2))
    return [*errors[: _MOST_MARKS // 2], *others[::every]]


def _seconds(attempt: AttemptView, now: datetime) -> float | None:
    if attempt.started_at is None:
        return None
    return max(0.0, ((attempt.finished_at or now) - attempt.started_at).total_seconds())


def _why(attempt: AttemptView, otherwise: str) -> str:
    reason = attempt.reason
    return attempt.error or (reason.message or reason.code.replace("_", " ") if reason is not None else otherwise)


def _ticks(start: datetime, end: datetime) -> tuple[Tick, ...]:
    """Return round times along the axis, at most six, none so near its end that their labels would touch."""
    span = (end - start).total_seconds()
    step = next((each for each in _STEPS if span / each <= _MOST_TICKS), _STEPS[-1])
    relative = span < _RELATIVE_SECONDS
    first = 0.0 if relative else -(start.timestamp() % step) % step
    found = []
    for number in range(_MOST_TICKS + 1):
        after = first + number * step
        if after > span * 0.97:
            break
        at = start.astimezone(UTC) + timedelta(seconds=after)
        found.append(Tick(x=round(after / span * 100, 3), at=at, after=_after(after, step) if relative else ""))
    return tuple(found)


def _after(seconds: float, step: float) -> str:
    """Return the label of a tick: no coarser than the steps of its axis."""
    if not seconds:
        return "0"
    return f"+{took(seconds)}" if step >= 0.1 else f"+{round(seconds * 1000):,} ms"
