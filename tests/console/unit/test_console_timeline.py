"""The timeline of a run: each stretch of time where it belongs, whatever the clocks say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from nomaflow.client.values import AttemptView, ReasonView, RunView, StepView
from nomaflow_console.rendering import environment
from nomaflow_console.views import run_words
from nomaflow_console.views.timeline import Moment, Row, Timeline, timeline

_START = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)


def _at(seconds: float) -> datetime:
    return _START + timedelta(seconds=seconds)


def _try(number: int, state: str, *times: float | None, not_before: float | None = None) -> AttemptView:
    dispatched, started, finished = (None if each is None else _at(each) for each in times)
    return AttemptView(
        attempt_key=f"run_1/score/{number}", attempt=number, state=state, dispatched_at=dispatched, started_at=started,
        finished_at=finished, not_before=None if not_before is None else _at(not_before),
    )  # fmt: skip


def _run(*steps: StepView, state: str = "FAILED", finished: float | None = 100) -> RunView:
    return RunView(
        run_id="run_1", job_id="month-end", state=state, queued_at=_START, started_at=_START,
        finished_at=None if finished is None else _at(finished), steps=steps,
    )  # fmt: skip


def _bars(row: Row) -> list[tuple[str, float, float]]:
    return [(bar.kind, round(bar.x, 1), round(bar.width, 1)) for bar in row.bars]


def _drawn(run: RunView, *, now: float = 100, moments: tuple[Moment, ...] = ()) -> Timeline:
    return timeline(run, now=_at(now), moments=moments)


def test_a_retry_shows_its_back_off_its_wait_and_its_work() -> None:
    """The second try begins where the first ended: back-off, then wait, then work."""
    score = StepView(
        name="score", attempts=(_try(1, "FAILED", 0, 10, 40), _try(2, "FAILED", 60, 65, 100, not_before=50))
    )
    first, second = _drawn(_run(score)).rows
    assert _bars(first) == [("wait", 0, 10), ("run", 10, 30)]
    assert _bars(second) == [("backoff", 40, 10), ("wait", 50, 15), ("run", 65, 35)]
    assert [mark.kind for mark in second.marks] == ["failed"]


def test_a_lost_try_has_a_short_word_beside_the_name_of_its_step() -> None:
    """The end of the row, where there is room, tells that its outcome is not known."""
    [row] = _drawn(_run(StepView(name="score", attempts=(_try(1, "LOST", 0, 10, 40),)))).rows
    assert row.sign.word == "lost"
    assert row.attempt is not None
    made = environment().get_template("parts/track_words.html")
    assert "<span>outcome not known</span>" in made.render(row=row, words=run_words)


def test_a_step_that_was_not_reached_says_so() -> None:
    """A step after the one that ended the run has no bar but a sentence, also where a skipped try stands for it."""
    skipped = replace(_try(1, "SKIPPED", None, None, 40), reason=ReasonView(code="earlier_step_failed"))
    run = _run(
        StepView(name="score", attempts=(_try(1, "FAILED", 0, 10, 40),)),
        StepView(name="summary", attempts=(skipped,)),
        StepView(name="audit"),
        StepView(name="off", enabled=False),
    )
    _, summary, audit, off = _drawn(run).rows
    assert (summary.bars, summary.note) == ((), "earlier step failed")
    assert (audit.bars, audit.note) == ((), "not reached: an earlier step ended the run")
    assert off.note == "switched off"


def test_what_is_not_over_grows_to_now() -> None:
    """The bar of a running try ends now, that of a try in back-off too; later steps have not started."""
    run = _run(
        StepView(name="score", attempts=(_try(1, "RUNNING", 0, 20, None),)),
        StepView(name="summary"),
        state="RUNNING",
        finished=None,
    )
    drawn = _drawn(run, now=40)
    assert [(bar.kind, bar.x, bar.open) for bar in drawn.rows[0].bars] == [("wait", 0, False), ("run", 50, True)]
    assert drawn.rows[1].note == "not started yet"
    backing_off = _run(
        StepView(
            name="score", attempts=(_try(1, "FAILED", 0, 0, 20), _try(2, "PENDING", None, None, None, not_before=90))
        ),
        state="RUNNING",
        finished=None,
    )
    assert [(bar.kind, bar.open) for bar in _drawn(backing_off, now=40).rows[1].bars] == [("backoff", True)]


def test_very_many_tries_are_not_all_drawn() -> None:
    """Of 500 tries the first three and the last twenty are rows; one row says how many are left out."""
    tries = tuple(_try(number, "FAILED", number / 6, number / 6, (number + 1) / 6) for number in range(1, 501))
    rows = _drawn(_run(StepView(name="score", attempts=tries))).rows
    assert len(rows) == 24
    assert rows[3].note == "477 more tries"


def test_warnings_stand_where_they_were_logged() -> None:
    """A warning has its mark at its time, and very many of them leave the errors standing."""
    score = StepView(name="score", attempts=(_try(1, "FAILED", 0, 10, 100),))
    many = tuple(Moment(step="score", attempt=1, at=_at(10 + n / 20), kind="warning") for n in range(1000))
    error = Moment(step="score", attempt=1, at=_at(75), kind="error")
    (row,) = _drawn(_run(score), moments=(*many, error)).rows
    assert ("error", 75.0) in [(mark.kind, mark.x) for mark in row.marks]
    assert len(row.marks) < 60


_TIMES = st.one_of(st.none(), st.floats(-50, 200))


@given(
    st.lists(st.tuples(_TIMES, _TIMES, _TIMES, _TIMES, st.sampled_from(["RUNNING", "FAILED", "PENDING"])), max_size=5)
)
def test_no_clock_draws_outside_of_the_axis(tries: list[tuple[float | None, ...]]) -> None:
    """Bars lie within the axis and follow each other, whatever clocks say."""
    attempts = tuple(
        _try(number, str(state), dispatched, started, finished, not_before=not_before)  # type: ignore[arg-type]
        for number, (dispatched, started, finished, not_before, state) in enumerate(tries, 1)
    )
    for state, finished in (("RUNNING", None), ("FAILED", 100.0)):
        for row in _drawn(_run(StepView(name="score", attempts=attempts), state=state, finished=finished)).rows:
            at = 0.0
            for bar in row.bars:
                assert at - 0.002 <= bar.x
                assert bar.width >= 0
                assert bar.x + bar.width <= 100.01
                at = bar.x
            assert all(0 <= mark.x <= 100 for mark in row.marks)


@given(st.floats(0.001, 4e7))
@example(0.27)
def test_an_axis_has_a_few_round_times(seconds: float) -> None:
    """There are one to seven ticks, in order, none beyond the end, from a millisecond to a year."""
    run = _run(StepView(name="score", attempts=(_try(1, "FAILED", 0, 0, seconds),)), finished=seconds)
    ticks = _drawn(run).ticks
    assert len(ticks) <= 7
    assert ticks or seconds > 5
    assert [tick.x for tick in ticks] == sorted({tick.x for tick in ticks})
    assert all(0 <= tick.x <= 97.1 for tick in ticks)
    labels = [tick.after for tick in ticks if tick.after]
    assert len(labels) == len(set(labels)), "no label stands twice on the axis"


def test_the_back_off_after_tries_that_are_left_out_begins_at_the_last_of_them() -> None:
    """Of thirty tries the fourth to the tenth have no row; the eleventh has waited for the end of the tenth."""
    attempts = tuple(
        _try(number, "FAILED", 3 * number, 3 * number, 3 * number + 1, not_before=3 * number) for number in range(1, 31)
    )
    rows = _drawn(_run(StepView(name="score", attempts=attempts))).rows
    assert rows[3].note == "7 more tries"
    assert _bars(rows[4]) == [("backoff", 31, 2), ("run", 33, 1)]
