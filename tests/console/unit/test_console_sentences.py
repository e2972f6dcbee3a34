"""A sentence says why a run is in its state, with the way out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow.client.values import AttemptView, CancelView, PauseView, ProgressView, ReasonView, RunView, StepView
from nomaflow_console.rendering import environment
from nomaflow_console.views.sentences import (
    amount,
    counted,
    line,
    pause_sentence,
    reason_sentence,
    run_sentence,
    usually,
    with_runs,
)
from nomaflow_console.views.times import Zone

NOW = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)


def _run(state: str, **more: object) -> RunView:
    return RunView(run_id="run_1", job_id="j", state=state, **more)  # type: ignore[arg-type]


def _step(name: str, state: str, **more: object) -> StepView:
    attempt = AttemptView(attempt_key="k", attempt=1, state=state, **more)  # type: ignore[arg-type]
    return StepView(name=name, attempts=(attempt,))


def test_a_run_that_succeeded_has_nothing_to_explain() -> None:
    """An empty cell is the good news."""
    assert not run_sentence(_run("SUCCEEDED", reason=ReasonView(code="x", message="y")))


def test_a_failed_run_names_the_step_and_the_error() -> None:
    """The step and its error are seen without opening the run."""
    run = _run(
        "FAILED", error="no rows in invoices\nmore", steps=(_step("purge", "SUCCEEDED"), _step("score", "FAILED"))
    )
    assert run_sentence(run).text == "score: no rows in invoices …"


def test_a_failed_run_without_its_steps_still_shows_the_error() -> None:
    """A list may come without steps."""
    assert run_sentence(_run("FAILED", error="no rows")).text == "no rows"


def test_a_waiting_run_says_what_it_waits_for() -> None:
    """The engine's own sentence."""
    why = ReasonView(code="waiting_for_host", message="no instance of host 'sales' takes work")
    assert run_sentence(_run("QUEUED", reason=why)).text == "no instance of host 'sales' takes work"


def test_a_skipped_run_says_why_and_not_that_it_was_skipped() -> None:
    """Its state says that already: the cause is what is seen first where there is little room."""
    why = ReasonView(code="overlap", message='skipped: run_1 is still running (overlap = "skip")')
    assert run_sentence(_run("SKIPPED", reason=why)).text == 'run_1 is still running (overlap = "skip")'
    failed = _run("FAILED", error="failed: no rows")
    assert run_sentence(failed).text == "failed: no rows"


def _html(sentence: object) -> str:
    return environment().from_string("{{ told(said) }}").render(said=sentence, now=NOW, zone=Zone())


def test_a_whole_number_is_exact() -> None:
    """The largest count of rows is not the float beside it."""
    assert (amount(2**63 - 1), amount(1.5), amount(None)) == ("9,223,372,036,854,775,807", "1.50", "–")


def test_the_time_to_the_next_try_counts_down() -> None:
    """The kernel's sentence ends with the time that was left when it was asked: the page counts it on."""
    why = ReasonView(code="waiting_for_retry", message="the next attempt of step '<b>' starts in 1 min 29 s")
    due = NOW + timedelta(seconds=61)
    waits = _run("RUNNING", reason=why, current_step="<b>", steps=(_step("<b>", "PENDING", not_before=due),))
    said = run_sentence(waits)
    assert said.text == why.message
    counted_down = '<span class="ticks" data-until="2026-11-26T08:01:01.000Z">1 min 01 s</span>'
    assert _html(said) == f"the next attempt of step &#39;&lt;b&gt;&#39; starts in {counted_down}"
    one = ReasonView(code="waiting_for_retry", message="the next attempt starts in 90 s")
    attempt = AttemptView(attempt_key="k", attempt=2, state="PENDING", reason=one, not_before=due)
    assert _html(reason_sentence(attempt)) == f"the next attempt starts in {counted_down}"


@pytest.mark.parametrize(
    "why",
    [
        ReasonView(code="waiting_for_retry", message="the next attempt is put off until <noon>"),
        ReasonView(code="waiting_for_host", message="a host <b>starts in 20 s"),
    ],
)
def test_a_sentence_that_counts_nothing_stays_text(why: ReasonView) -> None:
    """Another kernel may word it otherwise; whatever it says is escaped."""
    steps = (_step("s", "PENDING", not_before=NOW + timedelta(seconds=61)),)
    html = _html(run_sentence(_run("RUNNING", reason=why, current_step="s", steps=steps)))
    assert "ticks" not in html
    assert html == why.message.replace("<", "&lt;").replace(">", "&gt;")


def test_a_reason_without_a_sentence_is_told_by_its_code() -> None:
    """Better a code than nothing."""
    assert run_sentence(_run("QUEUED", reason=ReasonView(code="waiting_for_slot"))).text == "waiting for slot"


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (None, "score"),
        (ProgressView(done=6200, total=9000), "score 69 %"),
        (ProgressView(done=12, total=10), "score 100 %"),
        (ProgressView(done=6200, total=None), "score 6,200"),
        (ProgressView(done=6200, total=None, message="invoices"), "score 6,200 invoices"),
        (ProgressView(done=0, total=0), "score 0"),
    ],
)
def test_a_running_run_says_how_far_it_is(progress: ProgressView | None, text: str) -> None:
    """With a total it is a share, without one the number."""
    steps = (_step("score", "RUNNING", progress=progress),)
    assert run_sentence(_run("RUNNING", current_step="score", steps=steps)).text == text


def test_a_running_run_whose_host_is_silent_says_so_instead_of_its_step() -> None:
    """A bar that stands still would look like work."""
    why = ReasonView(code="host_silent", message="host 'sales' has been silent for 40 s")
    assert run_sentence(_run("RUNNING", current_step="score", reason=why)).text == why.message


def test_a_canceled_run_says_who_why_and_how_long_the_stop_took() -> None:
    """The person's words in quotes, and the proof."""
    cancel = CancelView(requested_at=NOW, by="bob", why="wrong tenant")
    run = _run("CANCELED", cancel=cancel, started_at=NOW, finished_at=NOW + timedelta(seconds=0.4))
    assert run_sentence(run).text == 'bob: "wrong tenant"; stopped in 0.4 s'


def test_a_run_canceled_before_its_start_did_not_have_to_stop() -> None:
    """No code ran, so none was stopped."""
    run = _run("CANCELED", cancel=CancelView(requested_at=NOW, by="bob"), finished_at=NOW)
    assert run_sentence(run).text == "bob asked for it; it had not started"


def test_a_run_canceled_by_another_run_keeps_the_engines_sentence() -> None:
    """The sentence about the overlap policy is shown as the engine has written it."""
    why = ReasonView(code="canceled_by_overlap", message="a newer run replaced it")
    assert run_sentence(_run("CANCELED", reason=why)).text == "a newer run replaced it"


def test_a_pause_says_who_and_why() -> None:
    """The row of an old pause among what needs a person."""
    pause = PauseView(job_id="j", by="ann", why="vendor freeze", until=NOW)
    assert pause_sentence(pause) == 'paused by ann: "vendor freeze"'
    assert pause_sentence(PauseView(by="ann")) == "everything paused by ann"
    assert pause_sentence(PauseView(host="ops", by="ann")) == "host ops paused by ann"


def test_a_time_far_over_the_usual_one_is_called_so() -> None:
    """Beyond the 95th percentile it is no longer normal."""
    assert usually(100, usual=60, p95=90) == "usually 1 min, longer than 19 of 20 runs"
    assert usually(80, usual=60, p95=90) == "usually 1 min"
    assert usually(80, usual=None, p95=None) == ""


def test_numbers_agree_with_their_nouns() -> None:
    """One run, two runs, two searches."""
    assert [counted(1, "run"), counted(1204, "run"), counted(2, "match", "matches")] == [
        "1 run",
        "1,204 runs",
        "2 matches",
    ]


@given(st.text(max_size=2000))
def test_any_text_becomes_one_short_line_without_controls(text: str) -> None:
    """Hostile errors cannot break a row, turn its text round or fill the page."""
    shown = line(text)
    assert len(shown) <= 300
    assert not any(mark in shown for mark in "\n\r\x00\x1b\x7f\u202e\u2066\u2028")


def test_the_id_of_a_run_in_a_sentence_is_a_short_link() -> None:
    """Everything else is text, also what looks like HTML."""
    run_id = "run_01m8gfcqp5sxj7v2zjrkhs2gsv"
    link = f'<a href="/runs/{run_id}">run …2gsv</a>'
    assert with_runs(f"run {run_id} did not run: {run_id} was <b>first</b>") == (
        f"{link} did not run: {link} was &lt;b&gt;first&lt;/b&gt;"
    )
    assert with_runs(f"my_{run_id} and {run_id}x") == f"my_{run_id} and {run_id}x"
