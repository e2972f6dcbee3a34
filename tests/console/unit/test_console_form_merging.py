"""A form's fields and its JSON, merged: an untouched field is never sent, an edit is never dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow_console.forms.merging import Place, Wanted, merge, same
from nomaflow_console.forms.parsing import ABSENT, WrongText

NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, "", "x", [1], {"k": 1}])
WANTED = st.builds(
    lambda params, op_kwargs, steps: Wanted(params=params, op_kwargs=op_kwargs, steps=steps),
    st.dictionaries(NAMES, SCALARS),
    st.dictionaries(NAMES, st.dictionaries(NAMES, SCALARS, min_size=1)),
    st.dictionaries(NAMES, st.booleans()),
)
PLACES = st.builds(Place, st.sampled_from(["", "a", "b"]), NAMES)
EDITS = st.dictionaries(PLACES, SCALARS | st.just(ABSENT))


@given(WANTED)
def test_a_form_that_nobody_touched_asks_for_what_it_showed(base: Wanted) -> None:
    """An untouched form sends the values that it showed, and nothing if it showed none."""
    assert merge(base=base, fields={}, edited=base) == (base, [])


@given(WANTED, EDITS)
def test_an_edit_of_a_field_is_sent_and_nothing_else_changes(base: Wanted, fields: dict[Place, Any]) -> None:
    """Each touched field has its new value; each other place has its old one."""
    wanted, conflicts = merge(base=base, fields=fields, edited=base)
    assert not conflicts
    for place in {*dict(base.items()), *fields, *dict(wanted.items())}:
        assert same(wanted.get(place), fields.get(place, base.get(place)))


@given(WANTED, WANTED)
def test_an_edit_of_the_json_is_sent_whole(base: Wanted, edited: Wanted) -> None:
    """A value that was taken out of the JSON is not sent."""
    wanted, conflicts = merge(base=base, fields={}, edited=edited)
    assert wanted == edited
    assert not conflicts


@given(WANTED, EDITS, WANTED)
def test_no_edit_is_dropped_without_a_word(base: Wanted, fields: dict[Place, Any], edited: Wanted) -> None:
    """Every change on either side is in the merged values, or is reported as a conflict."""
    wanted, conflicts = merge(base=base, fields=fields, edited=edited)
    told = {each.place for each in conflicts}
    for place in {*dict(base.items()), *fields, *dict(edited.items())}:
        was, result = base.get(place), wanted.get(place)
        sides = [side for side in (fields.get(place, was), edited.get(place)) if not same(side, was)]
        if place in told:
            assert len(sides) == 2
            assert not same(*sides)
        elif sides:
            assert all(same(side, result) for side in sides)
        else:
            assert same(result, was)


@pytest.mark.parametrize("wrapped", [lambda value: value, lambda value: [0, value], lambda value: {"a": [value]}])
def test_numbers_and_switches_are_different_values_however_deep(wrapped: Callable[[Any], Any]) -> None:
    """Python takes 1, 1.0 and true for one value."""
    values = [wrapped(value) for value in (1, 1.0, True, None)]
    assert [[same(one, other) for other in values] for one in values] == [
        [number == place for place in range(4)] for number in range(4)
    ]
    assert not same([1], [1, 2])
    assert not same({"a": 1}, {"b": 1})


def test_an_untouched_switch_is_not_sent_as_off() -> None:
    """The job's own default holds."""
    wanted, _ = merge(base=Wanted(), fields={Place("", "tenant"): 12}, edited=Wanted())
    assert wanted == Wanted(params={"tenant": 12})


def test_a_value_edited_to_different_ends_is_told() -> None:
    """The form does not choose for the person."""
    place = Place("score", "batch")
    _, conflicts = merge(base=Wanted(), fields={place: 3}, edited=Wanted(op_kwargs={"score": {"batch": 4}}))
    assert [(each.place, each.in_field, each.in_json) for each in conflicts] == [(place, 3, 4)]


@given(WANTED)
def test_the_json_of_a_form_is_read_as_what_it_was_written_from(wanted: Wanted) -> None:
    """Form and JSON cannot differ."""
    assert Wanted.from_json(wanted.to_json()) == wanted


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"param": {}}, "unknown key 'param'; expected params, op_kwargs or steps"),
        ({"params": []}, "params: expected an object"),
        ({"op_kwargs": {"score": 3}}, "op_kwargs.score: expected an object"),
        ({"steps": {"score": "on"}}, "steps.score: expected true or false"),
        ({"params": {"": 1}}, "params: a name is empty"),
    ],
)
def test_json_of_another_form_is_refused_in_words(tree: dict[str, Any], message: str) -> None:
    """With the key."""
    with pytest.raises(WrongText, match=message.replace(".", r"\.")):
        Wanted.from_json(tree)
