"""The fields of the form that runs a job, or a run again: from the job's definition and its callables' signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nomaflow.client.values import CallableView, ParameterView
from nomaflow_console.forms.merging import Place, Wanted
from nomaflow_console.forms.parsing import ABSENT, Kind, KindName, kind_of, to_text

_LONG = 60
"""The characters from which a text has a field of several lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field.

    :param now: the value in effect if nothing is sent; `ABSENT` if there is none, or it is secret
    :param origin: where that value comes from: ``job``, ``preset``, ``default`` or ``run``
    :param shown: True if the field begins with that value as its text, not as its placeholder
    :param annotation: the type as the author wrote it
    :param secret: True if the value is shown to nobody
    :param default_text: the default of the signature as Python writes it
    """

    place: Place
    kind: Kind
    now: Any = ABSENT
    origin: str = ""
    shown: bool = False
    required: bool = False
    annotation: str = ""
    doc: str = ""
    secret: bool = False
    default_text: str = ""

    @property
    def name(self) -> str:
        """The name of its input."""
        return _name(self.place)

    @property
    def hint(self) -> str:
        """The value in effect, as text for a placeholder."""
        if self.secret:
            return "secret, kept as it is"
        return to_text(self.now, self.kind) or self.default_text

    @property
    def hint_label(self) -> str:
        """The value in effect as the label of a choice."""
        return self.now if self.kind.name is KindName.CHOICE and isinstance(self.now, str) else self.hint

    @property
    def type_text(self) -> str:
        """The type for a person: as the author wrote it, else the kind."""
        return self.annotation or (self.kind.name.value if self.kind.name is not KindName.ANY else "")

    def begins_with(self, base: Wanted) -> str:
        """Return the text that the field begins with, where the page begins with *base*."""
        value = base.get(self.place)
        if value is ABSENT and self.shown:
            value = self.now
        return to_text(value, self.kind)

    def is_long(self, text: str) -> bool:
        """Return True if a text needs a field of several lines."""
        return "\n" in text or len(text) > _LONG or self.kind.name is KindName.JSON

    def options(self, text: str) -> list[tuple[str, str]]:
        """Return the texts of a field that is chosen from, each with its label; empty for a field that is typed in.

        :param text: what the field shows, which is one of them in any case
        """
        if self.kind.name is KindName.BOOL:
            texts = ["true", "false"]
        elif self.kind.name is KindName.CHOICE:
            texts = [to_text(each, self.kind) for each in self.kind.choices]
        else:
            return []
        if self.kind.nullable:
            texts.append("null")
        if text and text not in texts:
            texts.append(text)
        labels = {to_text(each, self.kind): str(each) for each in self.kind.choices}
        return [(each, labels.get(each, each)) for each in texts]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepPart:
    """One step in the form.

    :param on: whether it runs if nothing is sent
    :param target: what it calls
    :param note: why it has no fields; empty if it has some, or needs none
    """

    name: str
    on: bool
    target: str = ""
    doc: str = ""
    note: str = ""
    fields: tuple[Field, ...] = ()

    @property
    def switch(self) -> str:
        """The name of its checkbox."""
        return f"on.{self.name}"

    def is_on(self, base: Wanted) -> bool:
        """Return whether the step runs, where the page begins with *base*."""
        return base.steps.get(self.name, self.on)


@dataclass(frozen=True, kw_only=True)
class Form:
    """The fields of one job, or of one run that is done again."""

    params: tuple[Field, ...] = ()
    steps: tuple[StepPart, ...] = ()

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """All fields by the name of their input."""
        return {each.name: each for each in (*self.params, *(one for step in self.steps for one in step.fields))}

    def at(self, place: Place) -> Field | None:
        """Return the field of a place; None if it has none."""
        found = self.fields.get(_name(place))
        return found if found is not None and found.place == place else None


def _name(place: Place) -> str:
    return f"s.{place.step}.{place.key}" if place.step else f"p.{place.key}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layers:
    """The sources of a run's values, lowest first: the definition, a preset, and the values of a former run.

    :param definition: of the job, in the form of ``jobs.toml``
    :param given: what the run that is done again was asked for; None for a new run
    """

    definition: Mapping[str, Any]
    preset: Mapping[str, Any] = field(default_factory=dict)
    given: Wanted | None = None

    def param(self, key: str) -> tuple[Any, str]:
        """Return the value of a param of the job, and where it comes from."""
        layers = (
            (self.given.params if self.given else {}, "run"),
            (_table(self.preset, "params"), "preset"),
            (_table(self.definition, "params"), "job"),
        )
        return _first(key, layers)

    def step_value(self, step: Mapping[str, Any], key: str) -> tuple[Any, str]:
        """Return the value of a step, and where it comes from."""
        name = str(step.get("name", ""))
        given = self.given or Wanted()
        layers = (
            (given.op_kwargs.get(name, {}), "run"),
            (given.params, "run"),
            (_table(_table(self.preset, "op_kwargs"), name), "preset"),
            (_table(self.preset, "params"), "preset"),
            (_table(step, "op_kwargs"), "job"),
            (_table(self.definition, "params"), "job"),
        )
        return _first(key, layers)

    def is_on(self, step: Mapping[str, Any]) -> bool:
        """Return whether a step runs."""
        name = str(step.get("name", ""))
        if self.given is not None and name in self.given.steps:
            return self.given.steps[name]
        return bool(_table(self.preset, "steps").get(name, step.get("enabled", True)))


def _table(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = of.get(key)
    return found if isinstance(found, Mapping) else {}


def _first(key: str, layers: Sequence[tuple[Mapping[str, Any], str]]) -> tuple[Any, str]:
    return next(((layer[key], origin) for layer, origin in layers if key in layer), (ABSENT, ""))


def build_form(layers: Layers, signatures: Mapping[str, CallableView], base: Wanted) -> Form:
    """Return the form of a job.

    :param signatures: the callables that are known, by reference: a job whose host is away has fields too, for the
        values that its definition gives
    :param base: the values that the page begins with, each of which has a field
    """
    steps = [step for step in layers.definition.get("steps", ()) if isinstance(step, Mapping)]
    taken = [parameter for step in steps for parameter in _parameters(step, signatures)]
    by_name = {each.name: each for each in reversed(taken)}
    given = layers.given.params if layers.given else {}
    keys = dict.fromkeys((*_table(layers.definition, "params"), *_table(layers.preset, "params"), *given, *base.params))
    secret = frozenset(layers.definition.get("secret_params", ()))
    shown = layers.given is not None
    params = (
        _field(Place("", key), *layers.param(key), by_name.get(key), shown=shown, secret=key in secret)
        for key in (*keys, *(key for key in secret if key not in keys))
    )
    parts = (_step_part(step, layers, signatures, base, secret) for step in steps)
    return Form(params=tuple(params), steps=tuple(parts))


def _parameters(step: Mapping[str, Any], signatures: Mapping[str, CallableView]) -> list[ParameterView]:
    signature = signatures.get(str(step.get("callable", "")))
    return [each for each in signature.parameters if not each.injected] if signature is not None else []


def _step_part(
    step: Mapping[str, Any],
    layers: Layers,
    signatures: Mapping[str, CallableView],
    base: Wanted,
    secret: frozenset[str],
) -> StepPart:
    name, target = str(step.get("name", "")), str(step.get("callable") or step.get("target_job_id") or "")
    signature = signatures.get(target)
    note = ""
    if step.get("type") == "call_job":
        note = f"runs job {target}, with the params above"
    elif step.get("type", "python") == "python" and signature is None:
        note = "the signature is not known: the fields are those of the job's file"
    known = {each.name: each for each in _parameters(step, signatures)}
    given = layers.given.op_kwargs.get(name, {}) if layers.given else {}
    of_preset = _table(_table(layers.preset, "op_kwargs"), name)
    keys = dict.fromkeys((*known, *_table(step, "op_kwargs"), *of_preset, *given, *base.op_kwargs.get(name, {})))
    settable, shown = step.get("overridable"), layers.given is not None
    return StepPart(
        name=name,
        on=layers.is_on(step),
        target=target,
        doc=signature.doc.strip().partition("\n")[0] if signature is not None else "",
        note=note,
        fields=tuple(
            _field(Place(name, key), *layers.step_value(step, key), known.get(key), shown=shown, secret=key in secret)
            for key in keys
            if settable is None or key in settable
        ),
    )


def _field(place: Place, now: Any, origin: str, parameter: ParameterView | None, *, shown: bool, secret: bool) -> Field:
    schema = parameter.schema if parameter is not None else None
    default_text = ""
    if now is ABSENT and parameter is not None and parameter.default_text:
        default_text, origin = parameter.default_text, "default"
        # A default that JSON cannot hold is shown as the author wrote it.
        now = parameter.default if parameter.default is not None or default_text == "None" else ABSENT
    kind = kind_of(schema, now)
    return Field(
        place=place,
        kind=kind,
        now=ABSENT if secret else now,
        origin="" if secret else origin,
        default_text="" if secret else default_text,
        shown=shown and origin != "default" and now is not ABSENT and not secret,
        required=parameter is not None and parameter.required and now is ABSENT and not secret,
        annotation=parameter.annotation if parameter is not None else "",
        doc=parameter.doc if parameter is not None else "",
        secret=secret,
    )
