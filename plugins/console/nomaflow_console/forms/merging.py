"""Merges the fields and the JSON of a filled-in form, so that no edit is lost and nothing is added.

A form shows values as fields and as JSON; either may be edited, or both. The base is what the page showed before. A
value that differs from the base is an edit; a value that was not touched is never sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nomaflow_console.forms.parsing import ABSENT, WrongText


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The place of one value.

    :param step: the step; empty for a param of the job
    :param key: the name of the value; empty for the switch of the step itself
    """

    step: str
    key: str

    def __str__(self) -> str:
        """Return the place as a person writes it: ``tenant``, or ``score.tenant``."""
        if not self.key:
            return f"step {self.step}"
        return f"{self.step}.{self.key}" if self.step else self.key


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The values that a run is to have and would not have by itself.

    :param params: params of the job
    :param op_kwargs: by step
    :param steps: steps switched on or off
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    op_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: Mapping[str, bool] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(True for _ in self.items())

    def items(self) -> Iterator[tuple[Place, Any]]:
        """Yield each value with its place."""
        for key, value in self.params.items():
            yield Place("", key), value
        for step, values in self.op_kwargs.items():
            for key, value in values.items():
                yield Place(step, key), value
        for step, on in self.steps.items():
            yield Place(step, ""), on

    def get(self, place: Place) -> Any:
        """Return the value at a place; `ABSENT` if there is none."""
        if not place.key:
            return self.steps.get(place.step, ABSENT)
        return (self.op_kwargs.get(place.step, {}) if place.step else self.params).get(place.key, ABSENT)

    @classmethod
    def of(cls, items: Iterable[tuple[Place, Any]]) -> Wanted:
        """Return the values of places; those that are `ABSENT` are left out."""
        params: dict[str, Any] = {}
        op_kwargs: dict[str, dict[str, Any]] = {}
        steps: dict[str, bool] = {}
        for place, value in items:
            if value is ABSENT:
                continue
            if not place.key:
                steps[place.step] = bool(value)
            elif place.step:
                op_kwargs.setdefault(place.step, {})[place.key] = value
            else:
                params[place.key] = value
        return cls(params=params, op_kwargs=op_kwargs, steps=steps)

    def to_json(self) -> dict[str, Any]:
        """Return the values as the JSON of a form, empty groups left out."""
        groups = {"params": self.params, "op_kwargs": self.op_kwargs, "steps": self.steps}
        return {name: group for name, group in groups.items() if group}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Wanted:
        """Return the values of the JSON of a form.

        :raises WrongText: if it has another form
        """
        for name in tree:
            if name not in ("params", "op_kwargs", "steps"):
                raise WrongText(f"unknown key {name!r}; expected params, op_kwargs or steps")
        params = _object(tree.get("params", {}), "params")
        op_kwargs = _object(tree.get("op_kwargs", {}), "op_kwargs")
        steps = _object(tree.get("steps", {}), "steps")
        for step, on in steps.items():
            if not isinstance(on, bool):
                raise WrongText(f"steps.{step}: expected true or false")
        return cls(
            params=params,
            op_kwargs={step: _object(values, f"op_kwargs.{step}") for step, values in op_kwargs.items()},
            steps=steps,
        )


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WrongText(f"{name}: expected an object")
    if "" in value:
        raise WrongText(f"{name}: a name is empty")
    return value


@dataclass(frozen=True, slots=True)
class Conflict:
    """One value that was edited in its field and in the JSON, to different ends."""

    place: Place
    in_field: Any
    in_json: Any


def merge(*, base: Wanted, fields: Mapping[Place, Any], edited: Wanted) -> tuple[Wanted, list[Conflict]]:
    """Return all edits of fields and of the JSON, those in conflict as in the base, and the conflicts.

    :param base: the values that the page showed
    :param fields: the fields that were touched, with their new values; `ABSENT` for one that was emptied
    :param edited: the values of the JSON as it was sent
    """
    before, after = dict(base.items()), dict(edited.items())
    found: dict[Place, Any] = {}
    conflicts = []
    for place in dict.fromkeys((*before, *after, *fields)):
        was, in_json = before.get(place, ABSENT), after.get(place, ABSENT)
        in_field = fields.get(place, was)
        if same(in_field, was):
            found[place] = in_json
        elif same(in_json, was) or same(in_json, in_field):
            found[place] = in_field
        else:
            found[place] = was
            conflicts.append(Conflict(place, in_field, in_json))
    return Wanted.of(found.items()), conflicts


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are the same: 1, 1.0 and true are three values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
