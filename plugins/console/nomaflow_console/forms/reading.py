"""Reads a submitted form: the values that it asks for, and its mistakes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from nomaflow_console.forms.fields import Field, Form
from nomaflow_console.forms.merging import Conflict, Place, Wanted, merge
from nomaflow_console.forms.parsing import ABSENT, ANY, KindName, WrongText, parse_object, parse_text, to_text

JSON_FIELD = "json"
WAS = "was."
"""Begins the name of the hidden field with which a checkbox tells how it was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A form as it was sent.

    :param base: the values that the page showed; if the form is shown again, those that it shows next
    :param wanted: all edits together
    :param errors: by the name of the input
    :param texts: of the inputs to show again as they are, by name
    :param json_text: the JSON to show
    """

    base: Wanted
    wanted: Wanted
    errors: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    json_text: str = ""

    def __bool__(self) -> bool:
        return not self.errors


def json_text(wanted: Wanted) -> str:
    """Return the JSON of values for its field; empty for none. Only what could not be seen there is escaped."""
    text = json.dumps(wanted.to_json(), indent=2, ensure_ascii=False) if wanted else ""
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


def field_of(name: str) -> str:
    """Return the input that an invalid field of a request belongs to; empty if it has none.

    :param name: as the kernel gives it: ``params_json.KEY``, ``step_values.STEP.op_kwargs_json.KEY``
    """
    if name.startswith("params_json."):
        return f"p.{name.removeprefix('params_json.')}"
    step, found, key = name.removeprefix("step_values.").partition(".op_kwargs_json.")
    return f"s.{step}.{key}" if found and name.startswith("step_values.") else ""


def from_address(form: Form, query: Mapping[str, str], *, options: Mapping[str, Collection[str]]) -> Reading:
    """Return the reading of an address that fills a form: ``?p.tenant=12&s.score.batch=3&on.summary=off``.

    :param options: the names that the form takes beside its values → what each may be; none for any text
    """
    edits: dict[Place, Any] = {}
    errors: dict[str, str] = {}
    texts: dict[str, str] = {}
    for name, one in form.fields.items():
        if name in query:
            _take(one, query[name], edits, errors, texts, keeps_nothing=True)
    for name, expected in options.items():
        if expected and query.get(name, "") not in ("", *expected):
            errors[name] = f"{name} is {query[name]!r} in the address, expected {' or '.join(expected)}"
    for name, text in query.items():
        kind, _, rest = name.partition(".")
        if kind == "on" and rest:
            if text in ("on", "off"):
                edits[Place(rest, "")] = text == "on"
            else:
                errors[name] = f"{name} is {text!r} in the address, expected on or off"
        elif name not in form.fields and (place := _place(kind, rest)):
            # It has a field of its own from then on, and the kernel says whether there is such a value.
            _take(Field(place=place, kind=ANY), text, edits, errors, texts, keeps_nothing=True)
        elif name not in (*form.fields, *options, JSON_FIELD):
            errors[name] = f"the address gives {name}, which this form does not take; a param is given as p.tenant=12"
    edited, problem = _json(query.get(JSON_FIELD, ""))
    if problem:
        errors[JSON_FIELD] = problem
    wanted, _ = merge(base=Wanted(), fields=edits, edited=edited)
    shown = query[JSON_FIELD] if problem else json_text(wanted)
    return Reading(base=wanted, wanted=wanted, errors=errors, texts=texts, json_text=shown)


def base_of(sent: Mapping[str, str]) -> Wanted:
    """Return the values that a form showed before it was filled in; none if that cannot be read."""
    return _json(sent.get("base", ""))[0]


def read_form(form: Form, sent: Mapping[str, str]) -> Reading:
    """Return the reading of a form that was sent."""
    base = base_of(sent)
    edits: dict[Place, Any] = {}
    errors: dict[str, str] = {}
    texts: dict[str, str] = {}
    for name, one in form.fields.items():
        if name in sent and _lines(sent[name]) != _lines(one.begins_with(base)):
            _take(one, sent[name], edits, errors, texts)
    for step in form.steps:
        was = sent.get(WAS + step.switch)
        if was is not None and (step.switch in sent) != (was == "1"):
            edits[Place(step.name, "")] = step.switch in sent
    edited, problem = _json(sent.get(JSON_FIELD, ""))
    wanted, conflicts = merge(base=base, fields=edits, edited=base if problem else edited)
    told = {JSON_FIELD: problem} if problem else {_input_of(form, each): _conflict(each) for each in conflicts}
    if told:
        # Until the JSON can be read, nobody knows what of it was edited: everything is shown again as it was sent.
        kept = {name: sent[name] for name in form.fields if name in sent}
        return Reading(
            base=base, wanted=wanted, errors={**errors, **told}, texts=kept, json_text=sent.get(JSON_FIELD, "")
        )
    errors = {**dict.fromkeys(lacking(form, wanted), "needs a value"), **errors}
    return Reading(base=wanted, wanted=wanted, errors=errors, texts=texts, json_text=json_text(wanted))


def lacking(form: Form, wanted: Wanted) -> list[str]:
    """Return the inputs of the values that a step needs and does not get, if it runs."""
    runs = {step.name for step in form.steps if step.is_on(wanted)}
    return [
        name
        for name, one in form.fields.items()
        if one.required and one.place.step in runs
        if one.place.key not in wanted.params and one.place.key not in wanted.op_kwargs.get(one.place.step, ())
    ]


def _place(kind: str, rest: str) -> Place | None:
    """Return the place of a value by the two parts of its name in an address; None if it is no value's name."""
    if kind == "p" and rest:
        return Place("", rest)
    step, _, key = rest.partition(".")
    return Place(step, key) if kind == "s" and step and key else None


def _take(
    one: Field,
    text: str,
    edits: dict[Place, Any],
    errors: dict[str, str],
    texts: dict[str, str],
    *,
    keeps_nothing: bool = False,
) -> None:
    """Read one text that was edited."""
    try:
        value = parse_text(text, one.kind)
    except WrongText as error:
        errors[one.name], texts[one.name] = str(error), text
        return
    if value is not ABSENT or keeps_nothing or not one.shown:
        edits[one.place] = value
    elif one.kind.name is KindName.TEXT:
        edits[one.place] = ""
    else:
        null = ", or null" if one.kind.nullable else ""
        errors[one.name] = (
            f"the run had {to_text(one.now, one.kind)}, which an empty field cannot undo; give a value{null}"
        )
        texts[one.name] = text


def _json(text: str) -> tuple[Wanted, str]:
    """Return the values of a JSON text, and what is wrong with it."""
    try:
        return Wanted.from_json(parse_object(text)), ""
    except WrongText as error:
        return Wanted(), str(error)


def _input_of(form: Form, conflict: Conflict) -> str:
    found = form.at(conflict.place)
    if found is not None:
        return found.name
    return f"on.{conflict.place.step}" if not conflict.place.key else JSON_FIELD


def _conflict(conflict: Conflict) -> str:
    def shown(value: Any) -> str:
        return "nothing" if value is ABSENT else json.dumps(value, ensure_ascii=False)

    ends = f"{shown(conflict.in_field)} here, and {shown(conflict.in_json)} in the JSON"
    return f"{conflict.place} was set to {ends}; make them the same"


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").strip()
