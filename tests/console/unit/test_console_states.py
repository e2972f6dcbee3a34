"""Each state is shown by a sign, a word and a colour, always together."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow.client.values import AttemptView, CancelView, FoldView, ReasonView, RunView
from nomaflow_api.v1 import run_pb2
from nomaflow_console.views.states import RUN_STATES, attempt_sign, run_sign, sign_of, state_badge

NOW = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
KNOWN = [
    *(name.removeprefix("RUN_STATE_") for name in run_pb2.RunState.keys()[1:]),
    *(name.removeprefix("ATTEMPT_STATE_") for name in run_pb2.AttemptState.keys()[1:]),
]


@pytest.mark.parametrize("state", KNOWN)
def test_each_state_of_the_wire_has_a_sign_a_word_and_a_colour(state: str) -> None:
    """A state without them would be a blank place on a page."""
    found = sign_of(state)
    assert found.sign not in ("", "·")
    assert found.word
    assert found.css not in ("", "unknown")


def test_no_two_colours_share_a_sign() -> None:
    """A reader who cannot tell the colours apart reads the sign."""
    signs = {(found.sign, found.css) for found in map(sign_of, KNOWN)}
    assert len({sign for sign, _ in signs}) == len({css for _, css in signs}) == len(signs)


def test_a_tally_has_every_state_of_a_run_once() -> None:
    """A state left out of the tally would leave runs out of the sum."""
    assert sorted(RUN_STATES) == sorted(name.removeprefix("RUN_STATE_") for name in run_pb2.RunState.keys()[1:])


def test_a_run_being_canceled_is_shown_as_stopping_until_it_has_stopped() -> None:
    """CANCELED is said when the code has stopped, not when somebody asked."""
    asked = CancelView(requested_at=NOW, by="ann")
    assert run_sign(RunView(run_id="r", job_id="j", state="RUNNING", cancel=asked)).word == "stopping"
    assert run_sign(RunView(run_id="r", job_id="j", state="CANCELED", cancel=asked)).word == "canceled"


@pytest.mark.parametrize(
    ("code", "word"), [("host_lost", "lost"), ("outcome_lost", "lost"), ("step_failed", "failed"), ("", "failed")]
)
def test_a_run_is_lost_and_not_failed_if_nobody_knows_how_its_step_ended(code: str, word: str) -> None:
    """An operator who reads "failed" would run it again without a look at what it has done."""
    reason = ReasonView(code=code, message="why") if code else None
    assert run_sign(RunView(run_id="r", job_id="j", state="FAILED", reason=reason)).word == word


@pytest.mark.parametrize(
    ("code", "word"),
    [("waiting_for_retry", "waits"), ("waiting_for_host", "waits"), ("host_silent", "host silent"),
     ("waiting_for_call", "running")],
)  # fmt: skip
def test_a_run_of_which_no_step_is_known_to_run_is_not_called_running(code: str, word: str) -> None:
    """A run that waits for the run it calls goes on: that one runs."""
    run = RunView(run_id="r", job_id="j", state="RUNNING", reason=ReasonView(code=code, message="why"))
    assert run_sign(run).word == word


@pytest.mark.parametrize(("state", "word"), [("MISSED", "missed ×3"), ("SKIPPED", "skipped ×3")])
def test_a_row_of_many_fires_says_how_many(state: str, word: str) -> None:
    """One row stands for three fires."""
    fold = FoldView(first=NOW, last=NOW, count=3)
    assert run_sign(RunView(run_id="r", job_id="j", state=state, fold=fold)).word == word


def test_a_row_of_one_fire_has_no_number() -> None:
    """A row of one missed fire reads *missed*, not *missed ×1*."""
    fold = FoldView(first=NOW, last=NOW, count=1)
    assert run_sign(RunView(run_id="r", job_id="j", state="MISSED", fold=fold)).word == "missed"


def test_a_lost_attempt_says_that_its_outcome_is_not_known() -> None:
    """It may have done its work."""
    assert attempt_sign(AttemptView(attempt_key="k", attempt=1, state="LOST")).word == "lost: outcome not known"


@given(st.text())
def test_any_state_is_shown_as_text(state: str) -> None:
    """A state of a later kernel, or of a hostile one, is never markup."""
    shown = str(state_badge(sign_of(state)))
    assert re.fullmatch(
        r'<span class="state state-[a-z]+"><span class="sign" aria-hidden="true">[^<>]</span> [^<>]*</span>', shown
    )
