"""The tries that the page of a run lists: not thousands of them, unless somebody asks for these."""

from __future__ import annotations

import pytest
from starlette.routing import Match

from nomaflow.client.values import AttemptView, RunView, StepView
from nomaflow_console.pages import run
from nomaflow_console.views.json_tree import JsonTrees
from nomaflow_console.views.tries import tries, without_values


def _run(count: int) -> RunView:
    attempts = tuple(AttemptView(attempt_key=f"r/load/{n}", attempt=n, state="FAILED") for n in range(1, count + 1))
    skipped = AttemptView(attempt_key="r/tidy/0", attempt=0, state="SKIPPED")
    return run_of(*attempts, more=(StepView(name="tidy", index=1, attempts=(skipped,)),))


def run_of(*attempts: AttemptView, more: tuple[StepView, ...] = ()) -> RunView:
    """Return a run with the tries of its first step."""
    steps = StepView(name="load", index=0, attempts=attempts), *more
    return RunView(run_id="run_1", job_id="j", state="FAILED", steps=steps, params={"p": 1})


def _told(run: RunView, *, everything: bool = False, named: tuple[str, int] = ("", 0)) -> list[int]:
    """Return the numbers of the tries that are listed, and below 0 how many are left out in between."""
    rows = tries(run, JsonTrees(), everything=everything, named=named)
    return [row.attempt.attempt if row.attempt is not None else -row.left_out for row in rows]


def test_of_very_many_tries_the_first_and_the_last_ones_are_listed() -> None:
    """A page of 3,000 tries has 7 MB, which each change of the run would send again."""
    assert _told(_run(3000)) == [1, 2, 3, -2977, *range(2981, 3001)]
    assert _told(_run(3000), everything=True) == list(range(1, 3001))


@pytest.mark.parametrize("count", [1, 3, 23, 24])
def test_a_few_tries_are_all_listed(count: int) -> None:
    """A single one is not left out: a line in its place would be as long."""
    assert _told(_run(count)) == list(range(1, count + 1))


def test_the_try_that_the_log_is_about_is_listed() -> None:
    """Wherever it is among those that are left out."""
    assert _told(_run(100), named=("load", 50)) == [1, 2, 3, -46, 50, -30, *range(81, 101)]
    assert _told(_run(100), named=("load", 4))[:5] == [1, 2, 3, 4, -76]
    assert _told(_run(100), named=("tidy", 50))[3] == -77


def test_what_a_try_does_is_shown_whatever_its_step_is_called() -> None:
    """A name may have a slash, of which `nomaflow check` only warns."""
    for path, page in (("/runs/r/inspect/a/b/2", run.inspect), ("/runs/r/inspect/a/b/2.json", run.inspect_json)):
        matches = (each.matches({"type": "http", "method": "GET", "path": path}) for each in run.ROUTES)
        [found] = [scope for match, scope in matches if match is Match.FULL]
        assert (found["endpoint"], found["path_params"]) == (page, {"run_id": "r", "step": "a/b", "attempt": 2})


def test_what_is_listed_has_trees_in_place_of_values() -> None:
    """A remembered page holds what it shows: results may have 32 MB, and become twenty times that in memory."""
    attempt = AttemptView(attempt_key="r/load/1", attempt=1, state="SUCCEEDED", extras={"n": [1]}, kwargs={"k": 2})
    [row] = tries(run_of(attempt), JsonTrees())
    assert row.attempt is not None
    assert (row.attempt.extras, row.attempt.kwargs, row.step.attempts) == ({}, {}, ())
    assert row.extras_line == '{"n": [1]}'
    assert "[1]" in row.extras
    assert "k:" in row.values
    short = without_values(run_of(attempt))
    assert (short.params, short.steps[0].attempts) == ({}, (row.attempt,))
