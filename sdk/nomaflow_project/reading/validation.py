"""Validation of a parsed table: a checked entry, or problems in plain words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, TypeGuard, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from nomaflow_api.bounds import PROBLEMS_OF_TABLE
from nomaflow_api.credential_signs import names_credential
from nomaflow_project.reading.environment import plain_texts, unresolved_references
from nomaflow_project.reading.keys import Entry, refusal
from nomaflow_project.reading.problems import Place, Problem, did_you_mean, kind_of, shown, within_sentence

E = TypeVar("E")

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text in quotes",
    "list": "an array",
    "tuple": "an array",
    "dict": "a table",
    "model": "a table",
    "dataclass": "a table",
}
_ARTICLE = re.compile("^an? ")
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_BOUNDS = {
    "greater_than_equal": ("ge", "small", "at least"),
    "greater_than": ("gt", "small", "more than"),
    "less_than_equal": ("le", "large", "at most"),
    "less_than": ("lt", "large", "less than"),
}


def _refuse_true_for_one(model: type, value: object, info: ValidationInfo) -> object:
    if isinstance(value, bool) and info.field_name is not None:
        annotation = _hints(model)[info.field_name]
        kinds = set(get_args(annotation) or (annotation,)) - {NoneType}
        if kinds <= {int, float}:
            raise refusal("wrong_type", "expected a number, got {got}", got=str(value).lower())
    return value


@cache
def _hints(model: Any) -> dict[str, Any]:
    return get_type_hints(model)


# Here, since a process that gets checked values loads the keys without pydantic.
Entry.check_numbers = field_validator("*", mode="before")(classmethod(_refuse_true_for_one))


def validate(
    model: type[E], tree: object, place: Place, *, hide_values: bool = False
) -> tuple[E | None, list[Problem]]:
    """Return the entry of a table, or None and the problems of the table.

    :param model: a pydantic model or a dataclass of keys
    :param hide_values: True if any value may be a credential, so that no message shows values
    """
    problems = list(unresolved_references(tree, place))
    try:
        return _adapter(model).validate_python(tree), problems  # type: ignore[arg-type]  # a class is hashable
    except ValidationError as error:
        told = {problem.path for problem in problems}
        errors = error.errors(include_url=False)[:PROBLEMS_OF_TABLE]
        found = [_problem(model, tree, place, each, hide_values=hide_values) for each in errors]
        return None, problems + [problem for problem in found if problem.path not in told]


def misfits(model: type[BaseModel], tree: object, place: Place, *, hidden: Collection[str]) -> Iterator[Problem]:
    """Yield the problems that a plugin's model finds in a table; values that contain ``${…}`` are not checked.

    :param hidden: the keys of the table whose values no message shows
    """
    try:
        model.model_validate(tree)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            refers = any("${" in text for text in plain_texts(each["input"]))
            if each["type"] in ("missing", "extra_forbidden") or not refers:
                told = {**each, "msg": "is not valid"} if each["loc"] and each["loc"][0] in hidden else each
                yield _problem(model, tree, place, told, hidden=hidden)


def _problem(
    model: type,
    tree: object,
    place: Place,
    error: Mapping[str, Any],
    *,
    hide_values: bool = False,
    hidden: Collection[str] = (),
) -> Problem:
    kind, context = error["type"], error.get("ctx", {})
    location = _in_tree(tree, error["loc"], last_is_key=kind in ("missing", *_UNKNOWN))
    for part in location:
        place = place / part
    if kind in _UNKNOWN:
        tables, name = _tables_at(model, location[:-1]), str(location[-1])
        for table in tables:
            if instead := getattr(table, "REPLACED", {}).get(name):
                return place.error("unknown_key", f"the key {name!r} is gone", fix=instead)
        known = {each for table in tables for each in keys_of(table)}
        return place.error("unknown_key", f"unknown key {location[-1]!r}", fix=did_you_mean(str(location[-1]), known))
    if kind == "missing":
        return place.error("missing_key", f"the key {location[-1]!r} is required and missing", fix="add it")
    if "fix" in context or kind == "wrong_type":
        return place.error(kind, error["msg"], fix=context.get("fix", ""))
    tables = _tables_at(model, location)
    if kind == "tuple_type" and isinstance(error["input"], dict) and tables != _tables_at(model, location[:-1]):
        name = re.sub(r"\[[0-9]+\]", "", place.path)
        return place.error("wrong_type", f"expected [[{name}]] tables, got a single table", fix=f"write [[{name}]]")
    key = str(location[-1]) if location else ""
    secret = hide_values or names_credential(key) or key.endswith("url") or (bool(location) and location[0] in hidden)
    got = kind_of(error["input"]) if secret else shown(error["input"])
    return _builtin(place, kind, context, got, error)


def _builtin(place: Place, kind: str, context: Mapping[str, Any], got: str, error: Mapping[str, Any]) -> Problem:
    """Return the problem for one of pydantic's own errors."""
    subject = _ARTICLE.sub("the ", got)
    if kind in _BOUNDS:
        name, size, words = _BOUNDS[kind]
        return place.error("out_of_range", f"{subject} is too {size}, expected {words} {context[name]:,.10g}")
    if kind in ("enum", "literal_error"):
        choices = re.findall(r"'([^']*)'", context["expected"])
        fix = did_you_mean(error["input"], choices, noun="value") if isinstance(error["input"], str) else ""
        return place.error("bad_choice", f"{subject} is not one of {', '.join(choices)}", fix=fix)
    if kind == "too_short":
        said = f"the list is empty, expected at least {context['min_length']} entry"
        return place.error("empty", said, fix="add one")
    if kind == "too_long":
        said = f"the list has {len(error['input']):,} entries, expected at most {context['max_length']:,}"
        return place.error("out_of_range", said)
    if kind == "finite_number":
        return place.error("out_of_range", f"{subject} is not a finite number")
    expected = _EXPECTED.get(kind.partition("_")[0], "")
    if not expected or (expected == _EXPECTED["string"] and kind != "string_type"):
        said = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
        code = "wrong_type" if kind.endswith(("_type", "_parsing")) else "bad_value"
        return place.error(code, f"{within_sentence(said)}, got {got}")
    return place.error("wrong_type", f"expected {expected}, got {got}")


def _in_tree(tree: object, location: tuple[int | str, ...], *, last_is_key: bool) -> list[int | str]:
    """Return the parts of a location that are in the file, without the tags that pydantic adds for a union.

    :param last_is_key: whether the last part is a key, which the file may lack
    """
    parts: list[int | str] = []
    for index, part in enumerate(location):
        deeper = _child(tree, part)
        if deeper is not None:
            tree = deeper
        elif index < len(location) - 1 or not last_is_key:
            continue
        parts.append(part)
    return parts


def _child(tree: object, part: int | str) -> object:
    if isinstance(tree, dict):
        return tree.get(part)
    if isinstance(tree, list) and isinstance(part, int) and part < len(tree):
        return tree[part]
    return None


def _tables_at(model: type, location: list[int | str]) -> list[type]:
    """Return the models that a table at a location may have."""
    candidates = [model]
    for part in location:
        deeper: list[type] = []
        for candidate in candidates:
            if part in (keys := keys_of(candidate)):
                deeper += models_in(keys[str(part)].annotation)
        candidates = deeper or candidates
    return candidates


@cache
def keys_of(model: Any) -> Mapping[str, FieldInfo]:
    """Return the keys of a table, by the names that a file gives them."""
    found: Mapping[str, FieldInfo]
    if issubclass(model, BaseModel):
        found = model.model_fields
    else:
        hints = get_type_hints(model, include_extras=True)
        every = ((each.name, FieldInfo.from_annotated_attribute(hints[each.name], each)) for each in fields(model))
        found = {name: info for name, info in every if info.description}
    return {info.alias or name: info for name, info in found.items()}


def models_in(annotation: object) -> list[type]:
    """Return the models of the tables that a key may hold."""
    if _is_model(annotation):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def _is_model(annotation: object) -> TypeGuard[type]:
    return isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation))


@cache
def _adapter(model: type[E]) -> TypeAdapter[E]:
    return TypeAdapter(model)
