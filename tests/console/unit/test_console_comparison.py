"""Two runs side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from nomaflow.client.values import AttemptView, RunView, StepView, TriggerView
from nomaflow_console.json_answer import json_bytes
from nomaflow_console.pages.bulk import comparison_json
from nomaflow_console.views.run_comparison import ComparedGroup, compare, grouped


@pytest.mark.parametrize(
    ("kind", "by", "told"),
    [("replay", "owner (for ann)", "replay by ann"), ("manual", "bob", "manual by bob"), ("cron", "", "cron")],
)
def test_the_person_is_named_as_on_other_pages(kind: str, by: str, told: str) -> None:
    """The principal is a matter of the kernel's history."""
    run = RunView(run_id="run_1", job_id="j", state="SUCCEEDED", trigger=TriggerView(kind=kind, by=by))
    (row,) = [row for group in grouped(compare(run, run)) for row in group.rows if row.name == "trigger"]
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


def test_values_are_compared_as_they_are_shown() -> None:
    """Texts and numbers are compared without their JSON; of others the JSON counts, and so does what one lacks."""
    one = {"same": "a", "text": "a", "kind": 1, "float": 1, "deep": {"a": 1, "b": 2}, "gone": "not given"}
    other = {"same": "a", "text": "b", "kind": True, "float": 1.0, "deep": {"b": 2, "a": 1}}
    group = _results(one, other)
    assert {row.name: (row.one, row.other) for row in group.rows if row.differs} == {
        "text": ('"a"', '"b"'),
        "kind": ("1", "true"),
        "float": ("1", "1.0"),
        "deep": ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}'),
        "gone": ('"not given"', "not given"),
    }
    assert [row.name for row in group.rows if not row.differs] == ["same"]


def test_the_json_of_large_runs_comes_in_parts() -> None:
    """No part is larger than a step: none holds up the answers to others, and the first comes at once."""
    extras = [{f"k{number}": value for number in range(5_000)} for value in (1, 2)]
    runs = [
        RunView(
            run_id=f"r{value}", job_id="j", state="SUCCEEDED",
            steps=tuple(
                StepView(name=name, attempts=(AttemptView(attempt_key="k", attempt=1, state="SUCCEEDED", extras=each),))
                for name in "abcdefgh"
            ),
        )
        for value, each in enumerate(extras)
    ]  # fmt: skip
    parts = list(comparison_json(runs))
    found = json.loads(b"".join(parts))
    assert found["runs"] == [json.loads(json_bytes(run.to_json())) for run in runs]
    assert [row["name"] for row in found["differences"]] == [f"k{number}" for number in range(5_000)] * 8
    assert max(map(len, parts)) < len(b"".join(parts)) / 4
    assert json.loads(b"".join(comparison_json([]))) == {"runs": [], "differences": []}
