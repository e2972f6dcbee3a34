"""Values as texts of fields: what is shown is what is meant, and a wrong text is told in words."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow_console.forms import sending
from nomaflow_console.forms.fields import Field, Form, StepPart
from nomaflow_console.forms.merging import Place, Wanted, same
from nomaflow_console.forms.parsing import (
    ABSENT,
    ANY,
    Kind,
    KindName,
    WrongText,
    kind_of,
    parse_object,
    parse_text,
    to_text,
)
from nomaflow_console.forms.reading import Reading, base_of, json_text, read_form
from nomaflow_console.forms.sending import FormState, Options, checked

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)
INT, FLOAT, TEXT, BOOL = (Kind(name=name) for name in (KindName.INT, KindName.FLOAT, KindName.TEXT, KindName.BOOL))
JSON, DATE = Kind(name=KindName.JSON), Kind(name=KindName.DATE)


def _round(value: Any, kind: Kind) -> Any:
    # What a browser does to the text of a field on its way: line ends become CR LF.
    return parse_text(to_text(value, kind).replace("\n", "\r\n"), kind)


@given(VALUES)
def test_any_value_shown_without_a_type_is_read_as_the_same_value(value: Any) -> None:
    """An edit elsewhere on the page does not change it."""
    assert same(_round(value, ANY), value)


@given(st.text())
def test_any_text_shown_in_a_text_field_is_read_as_the_same_text(value: str) -> None:
    """Blanks at the ends, quotes, controls, line ends and the empty text included."""
    assert _round(value, TEXT) == value
    assert _round(value, Kind(name=KindName.TEXT, nullable=True)) == value


@given(VALUES.filter(lambda value: isinstance(value, list | dict)))
def test_any_list_or_object_is_read_as_the_same_one(value: Any) -> None:
    """As JSON."""
    assert same(_round(value, JSON), value)


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_is_read_as_the_same_number(value: float) -> None:
    """An int stays an int."""
    assert same(_round(value, FLOAT), value)
    if isinstance(value, int):
        assert same(_round(value, INT), value)


@given(st.dates(), st.times(), st.datetimes())
def test_any_date_and_time_is_read_as_the_same(day: Any, clock: Any, moment: Any) -> None:
    """They travel with a tag."""
    for tag, value, name in (
        ("$date", day, KindName.DATE),
        ("$time", clock, KindName.TIME),
        ("$datetime", moment, KindName.DATETIME),
    ):
        tree = {tag: value.isoformat()}
        assert kind_of(None, tree).name is name
        assert _round(tree, Kind(name=name)) == tree


@given(st.lists(SCALARS.filter(lambda value: value is not None), min_size=1, max_size=5))
def test_any_choice_is_read_as_itself(choices: list[Any]) -> None:
    """The number 1, the text "1" and true are three choices."""
    kind = Kind(name=KindName.CHOICE, choices=tuple(choices))
    for choice in choices:
        assert same(_round(choice, kind), choice)


@given(st.text(), st.sampled_from(KindName))
def test_any_text_is_read_or_refused_in_words(text: str, name: KindName) -> None:
    """Each text is read or refused with a message; no other error comes to a page."""
    with contextlib.suppress(WrongText):
        parse_text(text, Kind(name=name, choices=(1, "a")))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("", INT, ABSENT),
        ("  ", TEXT, ABSENT),
        ('""', TEXT, ""),
        ("10", INT, 10),
        ("10", TEXT, "10"),
        ("10", ANY, 10),
        ('"10"', ANY, "10"),
        ("ten", ANY, "ten"),
        ("true", BOOL, True),
        ("${TENANT}", INT, "${TENANT}"),
        ("1e3", FLOAT, 1000.0),
        ("2026-11-26", DATE, {"$date": "2026-11-26"}),
        ("null", Kind(name=KindName.INT, nullable=True), None),
        ("null", TEXT, "null"),
    ],
)
def test_a_text_is_read_by_the_kind_of_its_field(text: str, kind: Kind, value: Any) -> None:
    """The type is the signature's; without one the command line's rule holds."""
    found = parse_text(text, kind)
    assert found is value if value is ABSENT else same(found, value)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("ten", INT, "'ten' is not a whole number, such as 10"),
        ("1.5", INT, "'1.5' is not a whole number, such as 10"),
        ("1,204", INT, "'1,204' is not a whole number, such as 10; write 1204"),
        ("0,5", FLOAT, "'0,5' is not a number, such as 0.5; write 0.5"),
        ("yes", BOOL, "'yes' is not true or false"),
        ("26.11.2026", DATE, "'26.11.2026' is not a date, such as 2026-11-26"),
        ("NaN", FLOAT, "'NaN' is not a number, such as 0.5"),
        ("1e999", FLOAT, "'1e999' is not a number, such as 0.5"),
        ("-1e999", Kind(name=KindName.FLOAT, nullable=True), "'-1e999' is not a number, such as 0.5, or null"),
        ("[1e999]", ANY, "this begins like JSON and is none: 1e999 is too large for a number"),
        ("[1,", ANY, "this begins like JSON and is none: Expecting value at line 1, column 4"),
        ("red", Kind(name=KindName.CHOICE, choices=("blue", 3)), "'red' is none of blue, 3"),
    ],
)
def test_a_wrong_text_is_told_with_what_is_expected(text: str, kind: Kind, message: str) -> None:
    """Beside the field."""
    with pytest.raises(WrongText) as caught:
        parse_text(text, kind)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "integer"}, INT),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, Kind(name=KindName.INT, nullable=True)),
        ({"type": "string", "format": "date"}, DATE),
        ({"enum": ["a", "b"]}, Kind(name=KindName.CHOICE, choices=("a", "b"))),
        ({"type": "array", "items": {"type": "string"}}, JSON),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, Kind(name=KindName.ANY)),
        ({}, Kind(name=KindName.ANY, nullable=True)),
    ],
)
def test_the_kind_of_a_field_follows_from_the_signature(schema: dict[str, Any], kind: Kind) -> None:
    """By the JSON schema of the annotation."""
    assert kind_of(schema) == kind


def test_without_a_signature_the_kind_is_that_of_the_value() -> None:
    """A job whose host is away has a form too."""
    assert [kind_of(None, value).name for value in (True, 1, 0.5, "a", [1], {"$date": "2026-11-26"}, None)] == [
        KindName.BOOL, KindName.INT, KindName.FLOAT, KindName.TEXT, KindName.JSON, KindName.DATE, KindName.ANY,
    ]  # fmt: skip


def test_the_json_of_a_form_is_an_object_or_refused_in_words() -> None:
    """With the place of the mistake."""
    assert parse_object(" ") == {}
    with pytest.raises(WrongText, match="not JSON: Expecting value at line 1, column 8"):
        parse_object('{"a":  }')
    with pytest.raises(WrongText, match="expected an object"):
        parse_object("[]")
    with pytest.raises(WrongText, match="not JSON: 1e999 is too large for a number"):
        parse_object('{"a": 1e999}')


def test_a_base_with_a_number_that_json_has_not_is_no_base() -> None:
    """Such a number can be in the hidden field of the base only if somebody wrote it there."""
    assert base_of({"base": '{"params": {"a": 1}}'}).params == {"a": 1}
    assert base_of({"base": '{"params": {"a": Infinity}}'}) == Wanted()
    assert base_of({"base": '{"params": {"a": 1e999}}'}) == Wanted()


@pytest.mark.parametrize(
    ("sent", "lacks"),
    [
        ({"on.go": "1"}, True),
        ({"on.go": "1", "s.go.tenant": ""}, True),
        ({"on.go": "1", "s.go.tenant": "10"}, False),
        ({"on.go": "1", "json": '{"params": {"tenant": 10}}'}, False),
        ({}, False),
    ],
)
def test_a_form_without_a_value_that_a_step_needs_is_not_sent(sent: dict[str, str], lacks: bool) -> None:
    """Nobody else would say so before the step, when those before it have written; a step that is off needs nothing."""
    needed = Field(place=Place("go", "tenant"), kind=Kind(name=KindName.INT), required=True)
    form = Form(steps=(StepPart(name="go", on=True, fields=(needed,)),))
    reading = read_form(form, {"was.on.go": "1", **sent})
    assert dict(reading.errors) == ({"s.go.tenant": "needs a value"} if lacks else {})


@pytest.mark.parametrize(
    ("text", "value", "error"),
    [("3", 3, ""), ("", ABSENT, "the run had 2, which an empty field cannot undo; give a value"), ("2", ABSENT, "")],
)
def test_a_value_of_the_run_before_is_replaced_and_never_taken_away(text: str, value: object, error: str) -> None:
    """A replay begins with it, and differs from the run by what was edited."""
    had = Field(place=Place("", "n"), kind=INT, now=2, shown=True)
    form = Form(params=(had,))
    reading = read_form(form, {"p.n": text})
    assert (reading.wanted.get(had.place), reading.errors.get("p.n", "")) == (value, error)
    differs = [] if value is ABSENT else [sending.Change("n", "2", "3")]
    assert sending.changes(form, reading.wanted) == differs
    assert sending.changes(form, Wanted(params={"n": 2})) == []


@pytest.mark.parametrize(
    ("blames_empty", "errors", "raises"), [(True, {}, True), (False, {}, False), (True, {"json": "not JSON"}, False)]
)
async def test_a_check_that_the_kernel_does_not_answer_in_time_is_no_check(
    monkeypatch: pytest.MonkeyPatch, blames_empty: bool, errors: dict[str, str], raises: bool
) -> None:
    """The person who filled the form in is told so; a form that is opened, or has mistakes of its own, is shown."""
    monkeypatch.setattr(sending, "_CHECK_SECONDS", 0.01)
    reading = Reading(base=Wanted(), wanted=Wanted(), errors=errors)
    state = FormState(form=Form(), reading=reading, options=Options(), request_id="r")
    expected = pytest.raises(TimeoutError) if raises else contextlib.nullcontext()
    with expected:
        shown = await checked(state, asyncio.Event().wait, blames_empty=blames_empty)  # type: ignore[arg-type]
        assert not shown.checked
        assert not shown.startable


@given(st.text(max_size=20))
def test_the_json_of_a_form_shows_letters_and_escapes_what_nobody_sees(text: str) -> None:
    """It is the same value again, on lines without controls, marks of direction and lone surrogates."""
    shown = json_text(Wanted(params={"a": text}))
    assert json.loads(shown)["params"] == {"a": text}
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "Müller שלום" in json_text(Wanted(params={"a": "Müller שלום"}))


def test_each_value_of_a_large_form_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of a thousand steps has five thousand values: to look at all for each of them took nine seconds."""
    places = [Place(step, f"k{number}") for step in ("", "s") for number in range(100)]
    fields = tuple(Field(place=place, kind=ANY) for place in places)
    form = Form(params=fields[:100], steps=(StepPart(name="s", on=True, fields=fields[100:]),))
    compared, same_place = [], Place.__eq__

    def equals(one: Place, other: object) -> bool:
        compared.append(one)
        return same_place(one, other)

    monkeypatch.setattr(Place, "__eq__", equals)
    found = sending.changes(form, Wanted.of((place, 1) for place in places))
    assert [change.place for change in found] == [str(place) for place in places]
    assert len(compared) <= 200
    assert form.at(Place("s", "k100")) is None
    assert form.at(Place("s", "")) is None
