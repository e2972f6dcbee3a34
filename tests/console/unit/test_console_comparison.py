"""Two runs side by side."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from nomaflow.client.values import AttemptView, RunView, StepView, TriggerView
from nomaflow_console.views.run_comparison import ComparedGroup, compare, grouped


@pytest.mark.parametrize(
    ("kind", "by", "told"),
    [("replay", "owner (for ann)", "replay ann"), ("manual", "bob", "manual bob"), ("cron", "", "cron")],
)
def test_the_person_is_named_as_on_other_pages(kind: str, by: str, told: str) -> None:
    """The principal is a matter of the kernel's history."""
    run = RunView(run_id="run_1", job_id="j", state="SUCCEEDED", trigger=TriggerView(kind=kind, by=by))
    (row,) = [row for row in compare(run, run) if row.name == "trigger"]
    assert (row.one, row.differs) == (told, False)


def _results(one: Mapping[str, object], other: Mapping[str, object]) -> ComparedGroup:
    """Return what a page shows of the results of two runs."""

    def run(extras: Mapping[str, object]) -> RunView:
        attempt = AttemptView(attempt_key="k", attempt=1, state="SUCCEEDED", extras=extras)
        return RunView(run_id="r", job_id="j", state="SUCCEEDED", steps=(StepView(name="s", attempts=(attempt,)),))

    return next(each for each in grouped(compare(run(one), run(other))) if each.name == "Step s, result")


def test_of_very_many_values_those_that_differ_are_shown() -> None:
    """Two hundred values, in their order; how many are left out, and how many of those differ, is told."""
    one = {f"k{number}": number for number in range(1000)}
    few = _results(one, {**one, "k3": 0, "k900": 0})
    assert [row.name for row in few.rows if row.differs] == ["k3", "k900"]
    assert (len(few.rows), few.left, few.left_differ) == (200, 800, 0)
    many = _results(one, dict.fromkeys(one, -1))
    assert (len(many.rows), many.left, many.left_differ) == (200, 800, 800)


def test_of_a_long_value_the_part_that_differs_is_shown() -> None:
    """The part around the first difference, a thousand characters of each."""
    (row,) = _results({"text": "a" * 9000 + "x" + "b" * 9000}, {"text": "a" * 9000 + "y" + "b" * 9000}).rows
    one, other = row.shown
    assert one != other
    assert one.index("x") == other.index("y")
    assert all(text.startswith("…aaa") and text.endswith("bbb…") and len(text) < 1010 for text in (one, other))
